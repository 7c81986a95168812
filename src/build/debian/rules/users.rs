//! Users and groups: what base-passwd ships, then what packages ask for, with ids that depend on nothing but the packages
//! (passwd(5), shadow(5), sysusers.d(5)).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::build::debian::inside;
use crate::build::tree::{Content, Entry, Tree};
use crate::model::guest_path::GuestPath;

/// Ids of system users that have no fixed one (Debian policy 9.2.2).
const SYSTEM: std::ops::RangeInclusive<u32> = 100..=999;

/// A user as a rule or a sysusers file asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WantUser {
    /// Login name.
    pub name: String,
    /// Fixed id.
    pub uid: Option<u32>,
    /// Its group; made when it is not there. `None`: one of the user's name.
    pub group: Option<String>,
    /// Comment.
    #[serde(default)]
    pub gecos: String,
    /// Home directory (`/nonexistent` where not given).
    pub home: Option<String>,
    /// Shell (`/usr/sbin/nologin` where not given).
    pub shell: Option<String>,
}

/// One user.
#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    rest: String,
    password: char,
}

/// One group.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
    password: char,
}

/// All users and groups of a tree.
#[derive(Debug, Clone, Default)]
pub struct Users {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Users {
    /// Those that base-passwd ships; root alone where it is not in the tree.
    pub fn base(tree: &Tree) -> Self {
        let read = |name: &str, or: &str| {
            inside::text(tree, &format!("usr/share/base-passwd/{name}.master")).unwrap_or_else(|| or.to_owned())
        };
        let mut users = Self::default();
        for line in read("passwd", "root:*:0:0:root:/root:/bin/sh\n").lines() {
            let fields: Vec<&str> = line.splitn(5, ':').collect();
            if let [name, _, uid, gid, rest] = fields[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                users.users.push(User { name: name.into(), uid, gid, rest: rest.into(), password: '*' });
            }
        }
        for line in read("group", "root:*:0:\n").lines() {
            let fields: Vec<&str> = line.splitn(4, ':').collect();
            if let [name, _, gid, members] = fields[..]
                && let Ok(gid) = gid.parse()
            {
                let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
                users.groups.push(Group { name: name.into(), gid, members, password: '*' });
            }
        }
        users
    }

    /// The id of a user.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.users.iter().find(|u| u.name == name).map(|u| u.uid)
    }

    /// The id of a group.
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|g| g.name == name).map(|g| g.gid)
    }

    /// Whether there is nobody but root.
    pub fn is_root_alone(&self) -> bool {
        self.users.len() <= 1 && self.groups.len() <= 1
    }

    /// Adds a user unless one of that name is there.
    pub fn add(&mut self, want: &WantUser) {
        if self.uid(&want.name).is_some() {
            return;
        }
        let group = want.group.clone().unwrap_or_else(|| want.name.clone());
        let taken = |id: &u32| self.users.iter().any(|u| u.uid == *id);
        let free = |id: &u32| !taken(id) && !self.groups.iter().any(|g| g.gid == *id);
        let wanted = want.uid.filter(|id| !taken(id));
        let Some(uid) = wanted.or_else(|| SYSTEM.into_iter().find(free)) else { return };
        let gid = self.group(&group, (want.group.is_none()).then_some(uid));
        let (home, shell) = (want.home.as_deref(), want.shell.as_deref());
        let rest = format!(
            "{}:{}:{}",
            want.gecos,
            home.filter(|h| *h != "-").unwrap_or("/nonexistent"),
            shell.filter(|s| *s != "-").unwrap_or("/usr/sbin/nologin")
        );
        self.users.push(User { name: want.name.clone(), uid, gid, rest, password: '!' });
    }

    /// The id of a group, which is made when it is not there.
    pub fn group(&mut self, name: &str, wanted: Option<u32>) -> u32 {
        if let Some(gid) = self.gid(name) {
            return gid;
        }
        let free = |id: &u32| !self.groups.iter().any(|g| g.gid == *id);
        // Beyond 900 groups, numbers that nobody else uses either (Debian policy 9.2.2: 60000-64999 are for packages).
        let gid = wanted.filter(free).or_else(|| SYSTEM.chain(61_000..62_000).find(free)).unwrap_or(65_533);
        self.groups.push(Group { name: name.to_owned(), gid, members: Vec::new(), password: '!' });
        gid
    }

    /// Makes a user a member of a group.
    pub fn join(&mut self, user: &str, group: &str) {
        self.group(group, None);
        let known = self.groups.iter_mut().find(|g| g.name == group);
        if let Some(group) = known.filter(|g| !g.members.iter().any(|m| m == user)) {
            group.members.push(user.to_owned());
        }
    }

    /// Takes in a sysusers file (sysusers.d(5), "CONFIGURATION FILE FORMAT").
    pub fn sysusers(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let words = words(line);
            let word = |at: usize| words.get(at).map(String::as_str).filter(|w| !w.is_empty());
            let (Some(kind), Some(name)) = (word(0), word(1)) else { continue };
            let id = word(2).unwrap_or("-");
            match kind.trim_end_matches('!') {
                "u" => {
                    let (uid, group) = id.split_once(':').unwrap_or((id, ""));
                    let gid: Option<u32> = group.parse().ok();
                    let by_id = gid.and_then(|g| self.groups.iter().find(|k| k.gid == g).map(|k| k.name.clone()));
                    let named = (!group.is_empty() && gid.is_none()).then(|| group.to_owned());
                    self.add(&WantUser {
                        name: name.to_owned(),
                        uid: uid.parse().ok(),
                        group: by_id.or(named),
                        gecos: word(3).filter(|w| *w != "-").unwrap_or_default().replace([':', '\n'], " "),
                        home: word(4).filter(|w| w.starts_with('/') && *w != "/").map(str::to_owned),
                        shell: word(5).filter(|w| w.starts_with('/')).map(str::to_owned),
                    });
                }
                "g" => drop(self.group(name, id.parse().ok())),
                "m" => self.join(name, id),
                _ => {}
            }
        }
    }

    /// Writes `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow`; `epoch` gives the last change.
    pub fn write(&self, tree: &mut Tree, epoch: u64) {
        let days = epoch / 86_400;
        let (mut passwd, mut shadow) = (String::new(), String::new());
        let (mut group, mut gshadow) = (String::new(), String::new());
        for u in &self.users {
            let _ = writeln!(passwd, "{}:x:{}:{}:{}", u.name, u.uid, u.gid, u.rest);
            let rules = if u.password == '*' { "0:99999:7:::" } else { ":::::" };
            let _ = writeln!(shadow, "{}:{}:{days}:{rules}", u.name, u.password);
        }
        for g in &self.groups {
            let members = g.members.join(",");
            let _ = writeln!(group, "{}:x:{}:{members}", g.name, g.gid);
            let _ = writeln!(gshadow, "{}:{}::{members}", g.name, g.password);
        }
        let origin: Arc<str> = "users and groups".into();
        let secret = self.gid("shadow").unwrap_or(0);
        let files = [
            ("passwd", passwd, 0o644, 0),
            ("group", group, 0o644, 0),
            ("shadow", shadow, 0o640, secret),
            ("gshadow", gshadow, 0o640, secret),
        ];
        for (name, text, mode, gid) in files {
            let Ok(path) = GuestPath::parse(&format!("etc/{name}")) else { continue };
            let entry = Entry::file(&origin, mode, Content::bytes(text.into_bytes()));
            tree.put(path, Entry { gid, ..entry });
        }
    }
}

/// Words of a line, quotes taken off.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => (quote, any) = (Some(c), true),
            None if c.is_whitespace() => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_the_order_alone() {
        let mut users = Users::base(&Tree::default());
        users.sysusers("# x\nu messagebus - \"System Message Bus\" - -\ng kvm 36\nu! x 7:kvm\nm x audio\n");
        users.add(&WantUser { name: "redis".into(), home: Some("/var/lib/redis".into()), ..Default::default() });
        users.add(&WantUser { name: "redis".into(), uid: Some(5), ..Default::default() });
        let mut tree = Tree::default();
        users.write(&mut tree, 86_400 * 20_000 + 5);
        assert_eq!(
            inside::text(&tree, "etc/passwd").unwrap(),
            "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100:System Message Bus:/nonexistent:/usr/sbin/nologin\n\
             x:x:7:36::/nonexistent:/usr/sbin/nologin\nredis:x:102:102::/var/lib/redis:/usr/sbin/nologin\n"
        );
        assert_eq!(
            inside::text(&tree, "etc/group").unwrap(),
            "root:x:0:\nmessagebus:x:100:\nkvm:x:36:\naudio:x:101:x\nredis:x:102:\n"
        );
        assert!(
            inside::text(&tree, "etc/shadow").unwrap().starts_with("root:*:20000:0:99999:7:::\nmessagebus:!:20000:")
        );
    }
}
