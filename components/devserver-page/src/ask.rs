//! What a page asks for.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::json;
use crate::loop_::devserver::{command, metrics, workspace};

#[derive(Deserialize)]
pub struct Request {
    /// Comes back with the answer.
    pub id: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum What {
    /// Members, links and what is measured.
    State,
    Commands,
    Restart {
        member: String,
    },
    Swap {
        member: String,
        /// None: its code is read anew.
        #[serde(rename = "use")]
        source: Option<String>,
        #[serde(rename = "dry-run")]
        dry_run: bool,
        /// Milliseconds; none: as the host has it.
        drain: Option<u32>,
    },
    Run {
        name: String,
        args: Vec<String>,
    },
    Stop,
}

pub fn state() -> Value {
    json!({
        "about": json::about(&workspace::about()),
        "members": workspace::members().iter().map(json::member).collect::<Vec<_>>(),
        "links": workspace::links().iter().map(json::link).collect::<Vec<_>>(),
        "measured": json::measurements(&metrics::measured()),
    })
}

pub async fn answer(what: What) -> Result<Value, String> {
    match what {
        What::State => Ok(state()),
        What::Commands => Ok(command::commands().await.iter().map(json::command).collect()),
        What::Restart { member } => workspace::restart(member)
            .await
            .map(|()| Value::Null)
            .map_err(|e| json::failure(&e)),
        What::Swap {
            member,
            source,
            dry_run,
            drain,
        } => workspace::swap(member, source, dry_run, drain)
            .await
            .map(|changes| changes.iter().map(json::change).collect())
            .map_err(|e| json::failure(&e)),
        What::Run { name, args } => command::run(name, args)
            .await
            .map(|(code, output)| json!({ "code": code, "output": output })),
        What::Stop => {
            workspace::stop().await;
            Ok(Value::Null)
        }
    }
}
