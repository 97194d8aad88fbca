//! Bad input: each refusal with its exact words.
