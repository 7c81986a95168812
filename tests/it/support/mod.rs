//! A world of its own for each test, and the server it may talk to.

pub mod machines;
pub mod makings;
pub mod upstream;
pub mod world;

pub use makings::Makings;
pub use upstream::Upstream;
pub use world::World;
