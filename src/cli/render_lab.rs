//! Labs as text for people.

use super::print::table;
use crate::lab::down::Down;
use crate::lab::status::LabStatus;
use crate::lab::up::Up;
use crate::lab::verify::Report;

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// A lab that is up: where it answers, and what to type next.
pub(super) fn up(done: &Up) -> String {
    let changed = done.deploys.iter().filter(|d| d.changed()).count();
    let mut out = format!(
        "{} is up after {}: {} of {} deploys applied\n",
        done.lab,
        seconds(done.milliseconds),
        changed,
        done.deploys.len()
    );
    for address in &done.addresses {
        out += &format!("  {address}\n");
    }
    if done.checks > 0 {
        out += &format!("labimg verify {}    looks whether it does what it promises\n", done.lab);
    }
    out + &format!("labimg kubectl --lab {0} get pods -A\nlabimg down {0}", done.lab)
}
