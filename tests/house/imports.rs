//! Imports between the modules of a crate, and the circles in them.
//!
//! A path counts for the module that defines the first name on it that is no module: `pub use` in between is followed,
//! and is no import of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::rust::{Token, behind_block, tokens, without_tests};

type Name = Vec<String>;

/// The modules of one crate target, by their path from its root.
#[derive(Default)]
pub struct Target {
    modules: BTreeMap<Name, Module>,
}

#[derive(Default)]
struct Module {
    /// Every path that stands in it, as written.
    paths: Vec<Name>,
    /// Names that it passes on, and what they stand for.
    exports: Vec<(String, Name)>,
}

impl Target {
    /// Reads a target from its root file on.
    pub fn read(root: &Path) -> Self {
        let mut target = Self::default();
        let folder = root.parent().expect("a file has a folder");
        target.read_file(&[], root, folder);
        target
    }

    fn read_file(&mut self, name: &[String], file: &Path, children: &Path) {
        let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_module(name, children, &without_tests(&tokens(&source)));
    }

    fn read_module(&mut self, name: &[String], children: &Path, tokens: &[(Token, usize)]) {
        let mut module = Module::default();
        let mut at = 0;
        while at < tokens.len() {
            let is_start = at == 0 || tokens[at - 1].0 != Token::Path;
            match tokens[at].0.name() {
                Some("mod") if tokens.get(at + 1).is_some_and(|next| next.0.name().is_some()) => {
                    at = self.read_child(name, children, tokens, at);
                }
                Some("use") => at = read_use(&mut module, tokens, at),
                Some(_) if is_start => at = read_path(&mut module, tokens, at),
                _ => at += 1,
            }
        }
        self.modules.insert(name.to_vec(), module);
    }

    /// Reads the module that is declared at `at`; answers with the index behind the declaration.
    fn read_child(
        &mut self,
        parent: &[String],
        children: &Path,
        tokens: &[(Token, usize)],
        at: usize,
    ) -> usize {
        let child = tokens[at + 1].0.name().expect("a module's name").to_owned();
        let name = [parent, std::slice::from_ref(&child)].concat();
        let folder = children.join(&child);
        if tokens.get(at + 2).is_some_and(|next| next.0.is('{')) {
            let end = behind_block(tokens, at + 2);
            self.read_module(&name, &folder, &tokens[at + 3..end - 1]);
            return end;
        }
        let places = [children.join(format!("{child}.rs")), folder.join("mod.rs")];
        if let Some(found) = places.iter().find(|place| place.exists()) {
            self.read_file(&name, found, &folder);
        }
        at + 3
    }

    /// Circles between modules next to each other, each of which stands for all that is in it. A module and its own
    /// children may use each other: they are one room.
    pub fn circles(&self) -> BTreeSet<BTreeSet<&Name>> {
        let mut imports: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
        for (from, module) in &self.modules {
            for to in module.paths.iter().filter_map(|path| self.definition(from, path, 0)) {
                let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
                if from.len() > common && to.len() > common {
                    let ancestor =
                        |name: &Name| self.modules.get_key_value(&name[..=common]).expect("a module").0;
                    imports.entry(ancestor(from)).or_default().insert(ancestor(to));
                }
            }
        }
        circles(&imports)
    }

    /// The module that defines what `path` names in the module `from`; `None` outside this crate.
    fn definition(&self, from: &[String], path: &[String], hops: u8) -> Option<&Name> {
        let (mut module, mut rest) = (from.to_vec(), path);
        match rest.first().map(String::as_str) {
            Some("crate") => (module, rest) = (Vec::new(), &rest[1..]),
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|first| first == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            Some(first) if self.modules.contains_key(&[from, &[first.to_owned()]].concat()) => {}
            _ => return None,
        }
        while let Some(first) = rest.first() {
            let child = [&module[..], std::slice::from_ref(first)].concat();
            if !self.modules.contains_key(&child) {
                break;
            }
            (module, rest) = (child, &rest[1..]);
        }
        let (name, found) = self.modules.get_key_value(&module)?;
        let export = rest.first().and_then(|first| found.exports.iter().find(|(name, _)| name == first));
        if let Some((_, meaning)) = export
            && hops < 8
        {
            // Of another crate, or a module in between.
            let meaning = [meaning, &rest[1..]].concat();
            return self.definition(&module, &meaning, hops + 1);
        }
        Some(name)
    }
}

/// Reads the `use` at `at`; answers with the index behind it.
fn read_use(module: &mut Module, tokens: &[(Token, usize)], at: usize) -> usize {
    let end = (at..tokens.len()).find(|at| tokens[*at].0.is(';')).unwrap_or(tokens.len());
    let is_public = at > 0 && (tokens[at - 1].0.is_name("pub") || tokens[at - 1].0.is(')'));
    let mut leaves = Vec::new();
    expand(&tokens[at + 1..end], &[], &mut leaves);
    for (path, name) in leaves {
        if is_public {
            module.exports.push((name, path));
        } else {
            module.paths.push(path);
        }
    }
    end + 1
}

/// The paths of a `use`, each with the name that it gives.
fn expand(tokens: &[(Token, usize)], prefix: &[String], leaves: &mut Vec<(Name, String)>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].0 {
            Token::Name(word) if word == "as" => {
                let name = tokens[at + 1].0.name().unwrap_or("_").to_owned();
                leaves.push((path, name));
                return;
            }
            Token::Name(word) if word == "self" && !path.is_empty() => {}
            Token::Name(word) => path.push(word.clone()),
            Token::Sign('{') => {
                let inner = &tokens[at + 1..behind_block(tokens, at) - 1];
                for part in split(inner) {
                    expand(part, &path, leaves);
                }
                return;
            }
            _ => {}
        }
        at += 1;
    }
    let name = path.last().cloned().unwrap_or_default();
    leaves.push((path, name));
}

/// Parts between commas, those in braces aside.
fn split(tokens: &[(Token, usize)]) -> Vec<&[(Token, usize)]> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        match tokens[at].0 {
            Token::Sign('{') => at = behind_block(tokens, at),
            Token::Sign(',') => {
                parts.push(&tokens[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Reads the path at `at`, if it is one; answers with the index behind it.
fn read_path(module: &mut Module, tokens: &[(Token, usize)], at: usize) -> usize {
    let mut path = Vec::new();
    let mut next = at;
    while let Some(name) = tokens.get(next).and_then(|(token, _)| token.name()) {
        path.push(name.to_owned());
        next += 1;
        if tokens.get(next).is_none_or(|(token, _)| *token != Token::Path) {
            break;
        }
        next += 1;
    }
    if path.len() > 1 {
        module.paths.push(path);
    }
    next.max(at + 1)
}

/// Groups of modules that import each other, directly or over others.
fn circles<'a>(imports: &BTreeMap<&'a Name, BTreeSet<&'a Name>>) -> BTreeSet<BTreeSet<&'a Name>> {
    let reach = |from: &'a Name| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(name) = open.pop() {
            open.extend(imports.get(name).into_iter().flatten().filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reached: BTreeMap<_, _> = imports.keys().map(|name| (*name, reach(name))).collect();
    let circle = |name: &'a Name| -> BTreeSet<&'a Name> {
        let back = |other: &&'a Name| reached.get(other).is_some_and(|back| back.contains(name));
        reached[name].iter().copied().filter(back).collect()
    };
    reached.keys().map(|name| circle(name)).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn a_circle_over_a_name_that_is_passed_on_is_found() {
    let folder = std::env::temp_dir().join(format!("tickstream-house-{}", std::process::id()));
    fs::create_dir_all(folder.join("a")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    write("lib.rs", "mod a; mod b; mod c; pub use a::Deep;");
    write("a.rs", "mod deep; pub use self::deep::Deep; use crate::{b::{self, B}, c};");
    write("a/deep.rs", "pub struct Deep; use super::other;");
    write("b.rs", "#[cfg(test)] mod tests { use crate::c::C; } fn f(_: crate::Deep) {}");
    write("c.rs", "pub struct C;");
    let target = Target::read(&folder.join("lib.rs"));
    let found: Vec<Vec<_>> =
        target.circles().iter().map(|circle| circle.iter().map(|n| n.join("::")).collect()).collect();
    fs::remove_dir_all(&folder).expect("its own folder");
    assert_eq!(found, [["a", "b"]]);
}
