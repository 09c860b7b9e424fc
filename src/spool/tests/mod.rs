// mod faults;
// mod format;
// mod room;
mod support;
