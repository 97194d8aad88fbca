//! Handlers on a device, against the interpreter and against the published tables.

mod kit;
mod published;
