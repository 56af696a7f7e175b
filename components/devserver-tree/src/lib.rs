//! The command `tree`: who uses whom in a workspace, and where it runs.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/devserver/wit", "wit"],
    world: "loop:devserver-tree/tree",
    generate_all,
});

mod draw;

use exports::loop_::devserver::command::{About, Guest};
use loop_::devserver::workspace;

const NAME: &str = "tree";
const USAGE: &str = "[--grants] [MEMBER]";

struct Tree;

impl Guest for Tree {
    async fn commands() -> Vec<About> {
        vec![About {
            name: NAME.into(),
            summary: "Show who uses whom, and where it runs.".into(),
            usage: USAGE.into(),
        }]
    }

    async fn run(name: String, args: Vec<String>) -> Result<(u32, String), String> {
        if name != NAME {
            return Err(format!("there is no command `{name}`"));
        }
        let mut has_grants = false;
        let mut member = None;
        for arg in &args {
            match arg.as_str() {
                "--help" | "-h" => return Ok((0, help())),
                "--grants" => has_grants = true,
                other if other.starts_with('-') || member.is_some() => {
                    return Ok((2, format!("usage: {NAME} {USAGE}\n")));
                }
                other => member = Some(other),
            }
        }
        let (members, links) = (workspace::members(), workspace::links());
        let drawn = draw::Drawing::new(&members, &links, has_grants);
        let Some(wanted) = member else {
            return Ok((0, drawn.all(&workspace::about())));
        };
        Ok(match drawn.one(wanted) {
            Some(text) => (0, text),
            None => (1, format!("there is no member `{wanted}`\n")),
        })
    }
}

fn help() -> String {
    format!(
        "usage: {NAME} {USAGE}\n\nShows components with what they use, and below that what it uses itself.\n\n  \
         --grants  show what each may do, too\n  MEMBER    show this component or provider alone\n"
    )
}

export!(Tree);
