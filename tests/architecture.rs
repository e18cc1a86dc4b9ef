//! The arrows between the modules, as `lib.rs` draws them, read from the source itself.
//!
//! The sources are taken apart into tokens (so comments and strings don't count), every path in them is
//! resolved to the top-level module or the library that it leads to, and each is compared with what that
//! module may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What each top-level module may use of the others.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("auth", &["types", "wire"]),
    ("fib", &["types"]),
    ("proto", &["types", "wire", "auth", "fib"]),
    ("dataplane", &["types", "wire", "fib"]),
    (
        "config",
        &[
            "types",
            "auth",
            "proto::config",
            "proto::redundancy::vrrp::config",
            "dataplane::DscpMode",
            "dataplane::Offload",
            "dataplane::UdpChecksum",
        ],
    ),
    ("io", &["types"]),
    ("mgmt", &["types"]),
    ("store", &["types", "proto::persist"]),
    ("runtime", &["types", "wire", "auth", "fib", "proto", "dataplane", "config", "io", "mgmt", "store"]),
    // Of `config`, what reads a file with care.
    ("sim", &["types", "wire", "auth", "fib", "proto", "dataplane", "config"]),
    (
        "cli",
        &["types", "wire", "auth", "fib", "proto", "dataplane", "config", "io", "mgmt", "runtime", "sim"],
    ),
];

/// The modules that `--no-default-features` compiles: they decide and transform, and never touch the world.
const PURE: &[&str] = &["types", "wire", "auth", "fib", "proto", "dataplane"];

/// Where a pure module's path must not lead, outside its tests.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "futures",
    "libc",
    "rand::random",
    "rand::rng",
    "rand::rngs::OsRng",
    "rand::rngs::SysRng",
    "rand::rngs::ThreadRng",
    "rtnetlink",
    "socket2",
    "tokio",
    "tun_tap",
];

/// A path as it stands in a source file.
struct Mention {
    file: PathBuf,
    /// Top-level module that the file belongs to; empty for `lib.rs` and `main.rs`.
    module: String,
    /// The path, its `crate`, `self` and `super` resolved: `crate::proto::config`, `std::net::IpAddr`.
    path: Vec<String>,
    /// Whether it stands in code that only tests compile.
    test: bool,
}

#[test]
fn modules_use_only_what_the_arrows_allow() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let sources = Sources::read();
    let mut wrong = String::new();
    for mention in sources.mentions.iter().filter(|m| m.path.first().is_some_and(|p| p == "crate")) {
        let Some(target) = mention.path.get(1) else { continue };
        if mention.module.is_empty() || *target == mention.module || !sources.modules.contains(target) {
            continue;
        }
        let Some(allowed) = arrows.get(mention.module.as_str()) else { continue };
        let inside = mention.path.get(1..).unwrap_or_default().join("::");
        if !allowed.iter().any(|a| leads_into(&inside, a)) {
            let _ = writeln!(wrong, "{}: uses crate::{inside}", mention.file.display());
        }
    }
    assert!(wrong.is_empty(), "arrows that the module map (src/lib.rs) does not have:\n{wrong}");
}

#[test]
fn every_module_has_its_arrows() {
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, Sources::read().modules, "modules under src, and those of ARROWS");
}

#[test]
fn pure_modules_do_not_touch_the_world() {
    let sources = Sources::read();
    let mut wrong = String::new();
    let mut seen = 0;
    for mention in sources.mentions.iter().filter(|m| PURE.contains(&m.module.as_str()) && !m.test) {
        seen += 1;
        let path = mention.path.join("::");
        if WORLD.iter().any(|world| leads_into(&path, world)) {
            let _ = writeln!(wrong, "{}: uses {path}", mention.file.display());
        }
    }
    assert!(seen > 100, "only {seen} paths found: the reader of sources is broken");
    assert!(
        wrong.is_empty(),
        "clocks, randomness, threads, files or sockets in modules that only decide:\n{wrong}"
    );
}

#[test]
fn unsafe_code_lives_in_io_alone() {
    let sources = Sources::read();
    let strays: Vec<_> = sources
        .unsafe_files
        .iter()
        .filter(|f| !f.starts_with("src/io"))
        .map(|f| f.display().to_string())
        .collect();
    assert!(strays.is_empty(), "`unsafe` outside src/io: {strays:?}");
}

/// Whether `path` is `prefix` or something inside it.
/// Each test that the README's table of features names (`path::function`) is there.
#[test]
fn the_tests_that_the_readme_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let named: Vec<(&str, &str)> = readme
        .split('`')
        .filter(|word| word.starts_with("tests/") || word.starts_with("src/"))
        .filter_map(|word| word.split_once("::"))
        .collect();
    assert!(named.len() > 30, "the table is read: {}", named.len());
    for (file, function) in named {
        let text =
            std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("README.md: {file}: {e}"));
        assert!(text.contains(&format!("fn {function}(")), "README.md names {file}::{function}");
    }
}

fn leads_into(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Everything that the tests ask of the sources.
#[derive(Default)]
struct Sources {
    /// Top-level modules.
    modules: BTreeSet<String>,
    mentions: Vec<Mention>,
    /// Files with the word `unsafe` in them.
    unsafe_files: BTreeSet<PathBuf>,
}

impl Sources {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        find_sources(&root.join("src"), &mut files);
        files.sort();
        assert!(files.len() > 20, "only {} source files found", files.len());

        let mut sources = Self::default();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let tokens: TokenStream =
                text.parse().unwrap_or_else(|e| panic!("{} does not tokenise: {e}", file.display()));
            let name = file.strip_prefix(root).unwrap();
            let module_path = module_path(name);
            sources.modules.extend(module_path.first().cloned());
            let test = module_path.last().is_some_and(|m| m == "tests");
            Reader {
                sources: &mut sources,
                file: name,
                top: module_path.first().cloned().unwrap_or_default(),
            }
            .walk(tokens, &module_path, test);
        }
        sources
    }
}

fn find_sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// `src/proto/xtr/etr.rs` → `[proto, xtr, etr]`; the crate roots → `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().skip(1).map(|p| p.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

struct Reader<'a> {
    sources: &'a mut Sources,
    file: &'a Path,
    top: String,
}

impl Reader<'_> {
    /// Collects the paths of one token stream that stands in the module `here`.
    fn walk(&mut self, tokens: TokenStream, here: &[String], test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        // `#[cfg(test)]` was seen, and holds for the item that follows.
        let mut cfg_test = false;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(ident) if ident == "unsafe" => {
                    self.sources.unsafe_files.insert(self.file.to_owned());
                    at += 1;
                }
                TokenTree::Ident(ident) if ident == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        let inner: Vec<_> = here.iter().cloned().chain([name.to_string()]).collect();
                        self.walk(body.stream(), &inner, test || cfg_test);
                        cfg_test = false;
                        at += 3;
                    } else {
                        at += 1;
                    }
                }
                TokenTree::Ident(_) => at = self.path(&tokens, at, &[], here, test || cfg_test),
                TokenTree::Group(group) => {
                    let attribute = group.delimiter() == Delimiter::Bracket
                        && at > 0
                        && matches!(tokens.get(at - 1), Some(TokenTree::Punct(p)) if p.as_char() == '#');
                    if attribute && group.stream().to_string().replace(' ', "") == "cfg(test)" {
                        cfg_test = true;
                    } else {
                        self.walk(group.stream(), here, test || cfg_test);
                        if group.delimiter() == Delimiter::Brace {
                            cfg_test = false;
                        }
                    }
                    at += 1;
                }
                TokenTree::Punct(punct) => {
                    if punct.as_char() == ';' {
                        cfg_test = false;
                    }
                    at += 1;
                }
                TokenTree::Literal(_) => at += 1,
            }
        }
    }

    /// Reads the path that starts at `at`, prefixed by the path that leads to it, and returns where it ends.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        prefix: &[String],
        here: &[String],
        test: bool,
    ) -> usize {
        let mut path = prefix.to_vec();
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            path.push(ident.to_string());
            at += 1;
            let colons = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
            if !(colons(at) && colons(at + 1)) {
                break;
            }
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(_)) => at += 2,
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let mut i = 0;
                    while i < inner.len() {
                        i = match inner.get(i) {
                            Some(TokenTree::Ident(_)) => self.path(&inner, i, &path, here, test),
                            _ => i + 1,
                        };
                    }
                    return at + 3;
                }
                _ => break,
            }
        }
        let path = resolve(&path, here);
        if path.len() > 1 {
            self.sources.mentions.push(Mention {
                file: self.file.to_owned(),
                module: self.top.clone(),
                path,
                test,
            });
        }
        at
    }
}

/// `self` and `super` at the front become `crate::…`; `eidolon` (as the binary says) becomes `crate`.
fn resolve(path: &[String], here: &[String]) -> Vec<String> {
    let mut base = here.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "super" => {
                base.pop();
            }
            "self" => {}
            _ => break,
        }
        relative = true;
        rest = tail;
    }
    if relative {
        ["crate".to_owned()].into_iter().chain(base).chain(rest.iter().cloned()).collect()
    } else if rest.first().is_some_and(|f| f == "eidolon") {
        ["crate".to_owned()].into_iter().chain(rest.iter().skip(1).cloned()).collect()
    } else {
        rest.to_vec()
    }
}

/// The reader itself, on a source with one of everything.
#[test]
fn the_reader_resolves_paths() {
    let source = r#"
        //! crate::proto is only named in a comment
        use crate::{types::{Eid, Ttl}, fib::Punt as P};
        use super::super::wire;
        fn f() -> self::inner::X { let s = "crate::auth"; std::thread::spawn(|| crate::io::tun::open()); s }
        mod inner { use super::super::control; }
        #[cfg(test)]
        mod tests { use super::*; use std::fs; }
        fn g() { std::process::exit(1) }
    "#;
    let mut sources = Sources::default();
    let here = vec!["proto".to_owned(), "xtr".to_owned()];
    Reader { sources: &mut sources, file: Path::new("x.rs"), top: "proto".to_owned() }.walk(
        source.parse().unwrap(),
        &here,
        false,
    );
    let seen: Vec<_> = sources.mentions.iter().map(|m| (m.path.join("::"), m.test)).collect();
    for path in [
        "crate::types::Eid",
        "crate::types::Ttl",
        "crate::fib::Punt",
        "crate::wire",
        "crate::proto::xtr::inner::X",
        "std::thread::spawn",
        "crate::io::tun::open",
        "crate::proto::control",
        "std::process::exit",
    ] {
        assert!(seen.contains(&(path.to_owned(), false)), "{path} in {seen:?}");
    }
    assert!(seen.contains(&("std::fs".to_owned(), true)), "{seen:?}");
    assert!(!seen.iter().any(|(p, _)| p.starts_with("crate::auth") || p == "crate::proto"), "{seen:?}");
    assert!(sources.unsafe_files.is_empty());
}
