//! Bring-up: from a bundle to a running lab, and what is done with it then.
//!
//! ```text
//! Session (bundle, profile, lock, state, machine)
//!   ├─ preflight       is this machine fit for this lab?
//!   ├─ engine          clusters: kind, existing; mirror and registry containers beside them
//!   ├─ deploy          the graph: manifests, charts, Istio; readiness with reasons
//!   ├─ secret          generated at `up`, wiped by `down`
//!   └─ verify          the profile's checks
//! ```
//!
//! **Guarantees.** Nothing comes from outside the bundle. Everything a lab leaves on a machine stands in its state folder or
//! carries its label, and `down` takes it away. Secrets stand in the state folder only, and in the cluster.

pub mod deploy;
pub mod docker;
pub mod down;
pub mod engine;
pub mod env;
pub mod error;
pub mod finding;
pub mod http;
pub mod kube;
pub mod logs;
pub mod machine;
pub mod mirror;
pub mod port_forward;
pub mod preflight;
pub mod registry;
pub mod run;
pub mod secret;
pub mod session;
pub mod state;
pub mod status;
pub mod tools;
pub mod up;
pub mod vagrant;
pub mod verify;

pub use error::{LabError, LabKind};
pub use finding::{Finding, Verdict};
pub use machine::{EngineSettings, Machine};
pub use session::Session;
pub use state::State;
