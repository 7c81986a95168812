//! What can only be done by running a machine: an author's steps over SSH, in a virtual machine under the toolchain's QEMU.
//!
//! ```text
//! tree ─ StartDisk ─▶ disk ─ StepAction 1 ─▶ state 1 ─ StepAction 2 ─▶ state 2 …
//!   │                             │ changes               │ changes
//!   └──────────── Harvest ◀───────┴───────────────────────┘ ─▶ tree
//! ```
//!
//! A *state* is a qcow2 overlay on the states before it: a snapshot to go on from, never a part of the result. Its bytes are
//! others each time; since the key of a step has the digests of the states it starts from, one that is there is gone on from,
//! and one that is made anew makes the steps after it anew. *Changes* are archives of what a step left in the file system,
//! without what a machine writes because it runs (module `noise`); the result is made of them alone, so equal changes give an
//! equal result, and comparing them says which step is not deterministic.
//!
//! One boot serves all steps that run one after another; each is the same as after a boot of its own: its clock starts at the
//! epoch and a day for each step before it, and `/tmp` is empty. A step that counts on processes or `/run` of the one before it
//! will fail when a build resumes there: that state is gone with the boot.

mod accel;
mod agent;
mod delta;
mod disk;
mod guest;
mod harvest;
mod noise;
mod qmp;
mod session;
mod step;
mod vm;

pub use disk::StartDisk;
pub use harvest::Harvest;
pub use session::{Machine, OnFailure, Opened};
pub use step::{StepAction, What, after};
