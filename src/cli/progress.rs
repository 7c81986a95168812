//! The one progress display: a row per task with bytes, rate and time left, and a line for the whole.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::report::{Reporter, TaskId};

/// Rows shown at most; the whole line counts the rest.
const MAX_ROWS: usize = 12;

/// Draws on standard error when that is a terminal; else only passes on notes and warnings.
pub struct Progress {
    bars: MultiProgress,
    drawn: bool,
    quiet: bool,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    whole: Option<ProgressBar>,
    rows: HashMap<u64, (Option<ProgressBar>, String)>,
}

impl Progress {
    /// A display; `quiet` shows warnings only.
    pub fn new(quiet: bool) -> Self {
        let drawn = !quiet && std::io::stderr().is_terminal();
        let target = if drawn { ProgressDrawTarget::stderr_with_hz(15) } else { ProgressDrawTarget::hidden() };
        Self {
            bars: MultiProgress::with_draw_target(target),
            drawn,
            quiet,
            next: AtomicU64::new(1),
            state: Mutex::default(),
        }
    }

    /// Takes the display away, before results are printed.
    pub fn clear(&self) {
        if let Ok(mut state) = self.state.lock() {
            *state = State::default();
        }
        let _ = self.bars.clear();
    }

    fn say(&self, text: &str) {
        self.bars.suspend(|| super::print::to_stderr(text));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

impl Reporter for Progress {
    fn phase(&self, name: &str, total_bytes: Option<u64>) {
        let (true, Ok(mut state)) = (self.drawn, self.state.lock()) else { return };
        let bar = match total_bytes {
            Some(total) => ProgressBar::new(total)
                .with_style(style("{msg:>10.bold} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} eta {eta}")),
            None => ProgressBar::new_spinner().with_style(style("{msg:>10.bold} {spinner} {elapsed}")),
        };
        let bar = self.bars.add(bar.with_message(name.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Some(old) = state.whole.replace(bar) {
            old.finish_and_clear();
        }
    }

    fn begin(&self, label: &str, bytes: Option<u64>) -> TaskId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (true, Ok(mut state)) = (self.drawn, self.state.lock()) else { return TaskId(id) };
        let shown = state.rows.values().filter(|(row, _)| row.is_some()).count() < MAX_ROWS;
        let row = shown.then(|| {
            let bar = match bytes {
                Some(total) => ProgressBar::new(total).with_style(style(
                    "           {bar:20.dim} {bytes:>10}/{total_bytes:10} {binary_bytes_per_sec:>12} {wide_msg:.dim}",
                )),
                None => {
                    ProgressBar::new_spinner().with_style(style("           {spinner} {bytes:>10} {wide_msg:.dim}"))
                }
            };
            let bar = bar.with_message(label.to_owned());
            match &state.whole {
                Some(whole) => self.bars.insert_before(whole, bar),
                None => self.bars.add(bar),
            }
        });
        state.rows.insert(id, (row, label.to_owned()));
        TaskId(id)
    }

    fn advance(&self, task: TaskId, bytes: u64) {
        let (true, Ok(state)) = (self.drawn, self.state.lock()) else { return };
        if let Some((Some(row), _)) = state.rows.get(&task.0) {
            row.inc(bytes);
        }
        if let Some(whole) = &state.whole {
            whole.inc(bytes);
        }
    }

    fn say(&self, task: TaskId, text: &str) {
        let (true, Ok(state)) = (self.drawn, self.state.lock()) else { return };
        if let Some((Some(row), label)) = state.rows.get(&task.0) {
            row.set_message(format!("{label}: {text}"));
        }
    }

    fn finish(&self, task: TaskId) {
        let (true, Ok(mut state)) = (self.drawn, self.state.lock()) else { return };
        if let Some((Some(row), _)) = state.rows.remove(&task.0) {
            row.finish_and_clear();
            self.bars.remove(&row);
        }
    }

    fn warn(&self, text: &str) {
        self.say(&format!("warning: {text}"));
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }
}
