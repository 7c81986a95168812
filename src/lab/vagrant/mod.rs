//! Machines that Vagrant runs for a lab: where they are, and boxes for Vagrant without a network.
//!
//! `labimg build` writes a folder with a `Vagrantfile`, `lab.json` and boxes. The first `vagrant up` leaves in
//! `.vagrant/labimg/` of that folder what a client of the lab needs: a key, and for each machine its address and host key.

pub mod import;
mod machines;
mod unpack;

pub use machines::{Folder, LAB_FILE};
