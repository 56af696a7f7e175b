//! Links components: what one imports and another one exports is filled, all the way down from an entry.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/toolchain/wit", "wit"],
    world: "loop:toolchain-link/linker",
    generate_all,
});

use exports::loop_::toolchain::link::{Guest, Options};
use loop_::toolchain::sources::{File, Made, Problem};
use wac_graph::types::{Package, SubtypeChecker, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

/// A component among those to be linked.
struct Part {
    path: String,
    package: PackageId,
    placed: Placed,
}

#[derive(Clone, Copy)]
enum Placed {
    Not,
    /// What it imports is being placed.
    Begun,
    Done(NodeId),
}

struct Linker {
    graph: CompositionGraph,
    parts: Vec<Part>,
}

fn problem(path: &str, message: impl Into<String>) -> Problem {
    Problem {
        message: message.into(),
        path: Some(path.into()),
        line: 0,
        column: 0,
    }
}

impl Linker {
    fn new(files: Vec<File>) -> Result<Linker, Problem> {
        let mut linker = Linker {
            graph: CompositionGraph::new(),
            parts: Vec::new(),
        };
        for (number, file) in files.into_iter().enumerate() {
            if linker.parts.iter().any(|part| part.path == file.path) {
                return Err(problem(&file.path, "it is given twice"));
            }
            // names of packages are none of paths, and never seen
            let name = format!("part:n{number}");
            let package = Package::from_bytes(&name, None, file.contents, linker.graph.types_mut())
                .map_err(|error| problem(&file.path, format!("it is no component: {error:#}")))?;
            let package = linker
                .graph
                .register_package(package)
                .map_err(|error| problem(&file.path, error.to_string()))?;
            linker.parts.push(Part {
                path: file.path,
                package,
                placed: Placed::Not,
            });
        }
        Ok(linker)
    }

    fn names(&self, at: usize, imported: bool) -> Vec<String> {
        let world = &self.graph.types()[self.graph[self.parts[at].package].ty()];
        let items = if imported { &world.imports } else { &world.exports };
        items.keys().cloned().collect()
    }

    /// Who fills an import, and by which of its exports; None, if nobody does.
    fn source(&self, at: usize, import: &str) -> Result<Option<(usize, String)>, Problem> {
        let types = self.graph.types();
        let wanted = types[self.graph[self.parts[at].package].ty()].imports[import];
        let mut found: Option<(usize, String)> = None;
        for (other, part) in self.parts.iter().enumerate().filter(|(other, _)| *other != at) {
            let exports = &types[self.graph[part.package].ty()].exports;
            let exported = exports.get_key_value(import).or_else(|| {
                exports
                    .iter()
                    .find(|(name, _)| are_semver_compatible(name, import))
            });
            let Some((name, kind)) = exported else { continue };
            let mut cache = Default::default();
            SubtypeChecker::new(&mut cache)
                .is_subtype(*kind, types, wanted, types)
                .map_err(|error| {
                    let path = &self.parts[at].path;
                    problem(
                        path,
                        format!(
                            "its {import} is another than the {name} of {}: {error:#}",
                            part.path
                        ),
                    )
                })?;
            if let Some((first, _)) = found {
                let first = &self.parts[first].path;
                return Err(problem(
                    &self.parts[at].path,
                    format!(
                        "its {import} is exported by {first} and by {}: give one of them",
                        part.path
                    ),
                ));
            }
            found = Some((other, name.clone()));
        }
        Ok(found)
    }

    /// Makes an instance of a component, after those that fill its imports.
    fn place(&mut self, at: usize) -> Result<NodeId, Problem> {
        match self.parts[at].placed {
            Placed::Done(node) => return Ok(node),
            Placed::Begun => return Err(problem(&self.parts[at].path, "it needs what needs it")),
            Placed::Not => self.parts[at].placed = Placed::Begun,
        }
        let mut filled = Vec::new();
        for import in self.names(at, true) {
            if let Some((other, export)) = self.source(at, &import)? {
                filled.push((import, self.place(other)?, export));
            }
        }
        let wrong = |path: &str, error: &dyn std::fmt::Display| problem(path, error.to_string());
        let path = self.parts[at].path.clone();
        let node = self.graph.instantiate(self.parts[at].package);
        for (import, other, export) in filled {
            let value = self
                .graph
                .alias_instance_export(other, &export)
                .map_err(|error| wrong(&path, &error))?;
            self.graph
                .set_instantiation_argument(node, &import, value)
                .map_err(|error| wrong(&path, &error))?;
        }
        self.parts[at].placed = Placed::Done(node);
        Ok(node)
    }

    fn link(mut self, entry: &str) -> Result<(Vec<u8>, Vec<Problem>), Problem> {
        let at = self
            .parts
            .iter()
            .position(|part| part.path == entry)
            .ok_or_else(|| problem(entry, format!("the entry {entry} is not among the files")))?;
        let node = self.place(at)?;
        for name in self.names(at, false) {
            let value = self
                .graph
                .alias_instance_export(node, &name)
                .map_err(|error| problem(entry, error.to_string()))?;
            self.graph
                .export(value, &name)
                .map_err(|error| problem(entry, error.to_string()))?;
        }
        let options = EncodeOptions {
            define_components: true,
            validate: true,
            processor: None,
        };
        let made = self
            .graph
            .encode(options)
            .map_err(|error| problem(entry, format!("{error:#}")))?;
        let unused = self
            .parts
            .iter()
            .filter(|part| matches!(part.placed, Placed::Not));
        Ok((
            made,
            unused
                .map(|part| problem(&part.path, "nothing needs it"))
                .collect(),
        ))
    }
}

struct Wac;

impl Guest for Wac {
    fn link(files: Vec<File>, options: Options) -> Result<Made, Vec<Problem>> {
        let linker = Linker::new(files).map_err(|problem| vec![problem])?;
        let (contents, warnings) = linker.link(&options.entry).map_err(|problem| vec![problem])?;
        Ok(Made {
            files: vec![File {
                path: options.output,
                contents,
            }],
            warnings,
        })
    }
}

export!(Wac);
