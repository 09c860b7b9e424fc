mod faults;
mod format;
mod full;
mod room;
mod speed;
mod support;
mod terms;
