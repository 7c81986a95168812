//! The last blocks that were read or unpacked, by their place.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// A few blocks, the last used in front.
pub struct Cache {
    most: usize,
    held: VecDeque<(u64, Rc<Vec<u8>>)>,
}

impl Cache {
    /// Holds at most so many.
    pub fn new(most: usize) -> Self {
        Self { most, held: VecDeque::new() }
    }

    /// The block at `place`, made when it is not held.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(&mut self, place: u64, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Rc<Vec<u8>>> {
        if let Some((_, found)) = self.held.front().filter(|(p, _)| *p == place) {
            return Ok(Rc::clone(found));
        }
        let held = self.held.iter().position(|(p, _)| *p == place).and_then(|n| self.held.remove(n));
        let found = match held {
            Some((_, found)) => found,
            None => Rc::new(make()?),
        };
        self.held.push_front((place, Rc::clone(&found)));
        self.held.truncate(self.most);
        Ok(found)
    }
}
