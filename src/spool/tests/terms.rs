//! Lanes that come and go, sinks that are ended, what is dropped, what is read back, and a disk that refuses.
