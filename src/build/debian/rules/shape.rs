//! Where a line of a script stands: whether it surely runs when the package is installed for the first time.

/// What is around a line: conditions, cases, loops, functions.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    frames: Vec<Frame>,
    /// Whether the package's files are there when the script runs.
    unpacked: bool,
    /// Whether something was opened in a way that is not followed.
    lost: bool,
}

#[derive(Debug, Clone)]
struct Frame {
    /// Whether its lines surely run.
    runs: bool,
    /// `case "$1"`, whose branches are told apart by their patterns.
    case: bool,
    /// The path whose presence (`true`) or absence is the condition.
    path: Option<(String, bool)>,
}

impl Shape {
    /// The start of a script; `unpacked`: the package's files are there when it runs, as for postinst.
    pub fn new(unpacked: bool) -> Self {
        Self { unpacked, ..Self::default() }
    }

    /// Whether what adduser, chown or mkdir find is what this tree has.
    pub fn unpacked(&self) -> bool {
        self.unpacked
    }

    /// Takes in what a line opens; to be called before the line is judged.
    pub fn before(&mut self, line: &str) {
        let inner = ["else if ", "then if ", "do if ", "; if ", "&& if ", "|| if ", ") if ", "{ if "];
        self.lost |= inner.iter().any(|i| line.contains(i));
        let unknown = Frame { runs: false, case: false, path: None };
        if let Some(condition) = line.strip_prefix("if ") {
            let both = line.contains("; else ") || line.contains("; elif ");
            let frame = if both { unknown } else { condition_frame(condition) };
            self.frames.push(frame);
        } else if line == "else" || line.starts_with("else ") || line.starts_with("elif ") {
            self.top(unknown);
        } else if line.starts_with("case ") {
            let case = ["case \"$1\" in", "case $1 in", "case \"${1}\" in"].contains(&line);
            self.frames.push(Frame { case, ..unknown });
        } else if ["for ", "while ", "until "].iter().any(|l| line.starts_with(l)) || line.ends_with('{') {
            self.frames.push(unknown);
        } else if line.ends_with(')') && self.frames.last().is_some_and(|f| f.case) {
            let runs = line.contains("configure") || line.contains("install");
            self.top(Frame { runs: runs && !line.contains("abort-install)"), case: true, path: None });
        }
    }

    /// Takes in what a line closes; to be called after the line was judged.
    pub fn after(&mut self, line: &str) {
        let ends = |word: &str| {
            line == word
                || line.ends_with(&format!("; {word}"))
                || [" ", ";"].iter().any(|s| line.starts_with(&format!("{word}{s}")))
        };
        if ["fi", "esac", "done"].into_iter().any(ends) || line.starts_with('}') || line.ends_with(";; esac") {
            self.frames.pop();
        }
    }

    /// Whether a line here surely runs.
    pub fn runs(&self) -> bool {
        !self.lost && self.frames.iter().all(|f| f.runs)
    }

    /// Whether a line here surely runs where the path is there (`there`) or is not.
    pub fn runs_if(&self, path: &str, there: bool) -> bool {
        let fits = |f: &Frame| f.path.as_ref().is_some_and(|(p, t)| p == path && *t == there);
        !self.lost && self.frames.iter().all(|f| f.runs || fits(f))
    }

    fn top(&mut self, frame: Frame) {
        match self.frames.last_mut() {
            Some(top) => *top = frame,
            None => self.lost = true,
        }
    }
}

fn condition_frame(condition: &str) -> Frame {
    let text = condition.split(';').next().unwrap_or_default().trim();
    let text = text.strip_suffix(" then").unwrap_or(text).trim();
    let runs = match text.contains("&&") {
        true => !text.contains("||") && text.split("&&").all(|p| holds(p.trim())),
        false => text.split("||").any(|p| holds(p.trim())),
    };
    Frame { runs, case: false, path: tested(text) }
}

/// Whether a test holds on a fresh installation: of the script's arguments, or for a user or group that is not there yet.
fn holds(test: &str) -> bool {
    let looks = ["! getent passwd ", "! getent group ", "! id ", "! dpkg-statoverride --list "];
    if looks.iter().any(|l| test.starts_with(l)) {
        return true;
    }
    let plain = test.replace(['"', '\''], "").replace("==", "=");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let args = ["$1 = configure", "configure = $1", "x$1 = xconfigure", "$1 = install", "install = $1", "-z $2"];
    args.iter().any(|a| plain == format!("[ {a} ]") || plain == format!("test {a}"))
}

/// `[ -d /path ]` and `[ ! -d /path ]`.
fn tested(text: &str) -> Option<(String, bool)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (flag, path, there) = match words[..] {
        ["[", flag, path, "]"] | ["test", flag, path] => (flag, path, true),
        ["[", "!", flag, path, "]"] | ["!", "[", flag, path, "]"] | ["test", "!", flag, path] => (flag, path, false),
        _ => return None,
    };
    let path = path.trim_matches('"').trim_end_matches('/');
    (["-d", "-e", "-f"].contains(&flag) && path.starts_with('/')).then(|| (path.to_owned(), there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(before: &str) -> bool {
        let mut shape = Shape::default();
        let lines: Vec<&str> = before.lines().collect();
        for line in lines {
            shape.before(line);
            shape.after(line);
        }
        shape.runs()
    }

    #[test]
    fn only_what_surely_runs_is_sure() {
        for text in [
            "set -e",
            "if [ \"$1\" = \"configure\" ]; then",
            "if [ configure = \"$1\" ] && [ -z \"$2\" ]; then",
            "if ! getent passwd x >/dev/null; then",
            "if [ -e /x ]; then\necho\nelse\necho\nfi",
            "case \"$1\" in\nupgrade)\n;;\nconfigure)",
        ] {
            assert!(runs(text), "{text}");
        }
        for text in [
            "if [ -e /x ]; then",
            "if getent passwd x; then",
            "if [ \"$1\" = configure ]; then\nelse",
            "if [ \"$1\" = configure ] && [ -e /x ]; then",
            "case \"$1\" in\nconfigure)\n;;\nremove)",
            "case \"$RET\" in\nconfigure)",
            "else if x; then",
            "setup() {",
            "for x in a b; do",
        ] {
            assert!(!runs(text), "{text}");
        }
    }
}
