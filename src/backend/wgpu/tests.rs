//! Handlers on a device, against the interpreter and against the published tables.

mod generated;
mod kit;
mod published;
