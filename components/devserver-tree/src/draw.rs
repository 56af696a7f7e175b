//! Draws the members of a workspace below whoever uses them.

use crate::loop_::devserver::workspace::{Kind, Link, Member, Phase, Placement, Summary};

/// What is drawn.
pub struct Drawing<'a> {
    members: &'a [Member],
    links: &'a [Link],
    has_grants: bool,
}

/// A line, and what is below it.
struct Node {
    text: String,
    below: Vec<Node>,
}

impl<'a> Drawing<'a> {
    pub fn new(members: &'a [Member], links: &'a [Link], has_grants: bool) -> Self {
        Self {
            members,
            links,
            has_grants,
        }
    }

    /// All members: first the components that serve no other, then the providers that nobody uses.
    pub fn all(&self, about: &Summary) -> String {
        let mut tops: Vec<Node> = self
            .members
            .iter()
            .filter(|it| it.kind == Kind::Component && !self.serves(it))
            .map(|it| self.component(it, &mut vec![]))
            .collect();
        tops.extend(
            self.members
                .iter()
                .filter(|it| it.kind == Kind::Provider && !self.is_used(it))
                .map(|it| self.provider(it, "used by nobody", &mut vec![])),
        );
        let top = Node {
            text: format!("{}  {}", about.name, about.folder),
            below: tops,
        };
        text(&top)
    }

    /// One of them; where a component and a provider have the same name, both.
    pub fn one(&self, name: &str) -> Option<String> {
        let found: String = self
            .members
            .iter()
            .filter(|it| it.name == name)
            .map(|it| match it.kind {
                Kind::Component => text(&self.component(it, &mut vec![])),
                Kind::Provider => text(&self.provider(it, "", &mut vec![])),
            })
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// Whether a component is there for others: a provider that somebody uses is made of it.
    fn serves(&self, component: &Member) -> bool {
        self.members
            .iter()
            .any(|it| it.kind == Kind::Provider && made_of(it) == Some(&component.name) && self.is_used(it))
    }

    fn is_used(&self, provider: &Member) -> bool {
        self.links.iter().any(|link| is_of(provider, &link.provider))
    }

    /// `within`: whom this is below, so that no circle is drawn for ever.
    fn component(&self, member: &Member, within: &mut Vec<String>) -> Node {
        Node {
            text: format!("{}  {}", member.name, said(member)),
            below: self.uses(&member.name, within),
        }
    }

    fn provider(&self, member: &Member, why: &str, within: &mut Vec<String>) -> Node {
        let why = if why.is_empty() {
            String::new()
        } else {
            format!("  {why}")
        };
        Node {
            text: format!("{}  {}{why}", member.name, said(member)),
            below: match member.placement {
                // one that ships with loop-kit, or is a file, has links of its own
                Placement::Component => self.uses(made_of(member).unwrap_or(&member.name), within),
                _ => vec![],
            },
        }
    }

    /// What a component is linked to, each provider once with all that it is used for.
    fn uses(&self, name: &str, within: &mut Vec<String>) -> Vec<Node> {
        if within.iter().any(|it| it == name) {
            return vec![Node {
                text: "… (see above)".into(),
                below: vec![],
            }];
        }
        within.push(name.to_string());
        let own: Vec<&Link> = self.links.iter().filter(|it| it.importer == name).collect();
        let mut seen: Vec<&str> = vec![];
        let mut nodes = vec![];
        for link in &own {
            if seen.contains(&link.provider.as_str()) {
                continue;
            }
            seen.push(&link.provider);
            let to: Vec<&Link> = own
                .iter()
                .filter(|it| it.provider == link.provider)
                .copied()
                .collect();
            let interfaces: Vec<&str> = to.iter().map(|it| it.interface.as_str()).collect();
            let what = format!("for {}", interfaces.join(", "));
            let found = self
                .members
                .iter()
                .find(|it| it.kind == Kind::Provider && is_for(it, &link.provider, name));
            let mut node = match found {
                Some(member) => self.provider(member, &what, within),
                None => Node {
                    text: format!("{}  {what}", link.provider),
                    below: vec![],
                },
            };
            if self.has_grants {
                let mut grants: Vec<&String> = vec![];
                for grant in to.iter().flat_map(|it| &it.grants) {
                    if !grants.contains(&grant) {
                        grants.push(grant);
                    }
                }
                let may = grants.iter().map(|it| Node {
                    text: format!("may {it}"),
                    below: vec![],
                });
                node.below.splice(0..0, may);
            }
            nodes.push(node);
        }
        within.pop();
        nodes
    }
}

/// Whether a member is of the provider: each link of an isolated one has a process, with the link after the name.
fn is_of(member: &Member, provider: &str) -> bool {
    member.name == provider
        || member
            .name
            .strip_prefix(provider)
            .is_some_and(|rest| rest.starts_with(' '))
}

/// … and, where there are several, that of this importer.
fn is_for(member: &Member, provider: &str, importer: &str) -> bool {
    let rest = member.name.strip_prefix(provider);
    rest == Some("") || rest.is_some_and(|it| it.starts_with(&format!(" {importer}/")))
}

/// The component of the workspace that a provider is.
fn made_of(member: &Member) -> Option<&str> {
    let target = member.source.strip_prefix("component:")?;
    let is_file = target.contains('/') || target.ends_with(".wasm") || target.ends_with(".wat");
    (!is_file && member.kind == Kind::Provider).then_some(target)
}

fn said(member: &Member) -> String {
    let place = match member.placement {
        Placement::Builtin => "builtin",
        Placement::Python => "python",
        Placement::Component => "component",
        Placement::Sidecar => "sidecar",
        Placement::Remote => "remote",
    };
    let by = if member.transport.is_empty() {
        String::new()
    } else {
        format!(" by {}", member.transport)
    };
    let phase = match member.phase {
        _ if member.crash_loop => "crash loop",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
        Phase::Stopped => "stopped",
        Phase::Failed => "failed",
    };
    format!("{place}{by}, {phase}")
}

fn text(top: &Node) -> String {
    let mut lines = format!("{}\n", top.text);
    below(&top.below, "", &mut lines);
    lines
}

fn below(nodes: &[Node], indent: &str, lines: &mut String) {
    for (at, node) in nodes.iter().enumerate() {
        let (branch, more) = if at + 1 == nodes.len() {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        lines.push_str(&format!("{indent}{branch}{}\n", node.text));
        below(&node.below, &format!("{indent}{more}"), lines);
    }
}
