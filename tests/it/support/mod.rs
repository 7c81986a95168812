//! A world of its own for each test, and the server it may talk to.

pub mod upstream;
pub mod world;

pub use upstream::Upstream;
pub use world::World;
