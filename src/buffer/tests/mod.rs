//! Tests of the buffer over the log, on a disk that can lose its power.
