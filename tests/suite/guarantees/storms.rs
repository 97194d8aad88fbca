//! storms
