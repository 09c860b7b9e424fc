//! The suite of one driver: [`super`] includes it once for each.

mod closing;
mod connections;
mod crowd;
mod disk_cost;
mod harness;
mod keeper;
mod layers;
mod links;
mod parking;
mod quanta;
mod reads;
mod segments;
mod streams;
mod toy;
mod traps;

use super::seam;
