mod faults;
mod format;
mod full;
mod room;
mod search;
mod speed;
mod support;
mod terms;
