//! Rows of records and messages.
