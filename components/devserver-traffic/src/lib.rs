//! The command `traffic`: what went over each link of a workspace.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/devserver/wit", "wit"],
    world: "loop:devserver-traffic/traffic",
    generate_all,
});

use exports::loop_::devserver::command::{About, Guest};
use loop_::devserver::workspace::{self, Link};

const NAME: &str = "traffic";
const USAGE: &str = "[--where] [MEMBER]";

struct Shown;

impl Guest for Shown {
    async fn commands() -> Vec<About> {
        vec![About {
            name: NAME.into(),
            summary: "Show calls, errors and latency of each link.".into(),
            usage: USAGE.into(),
        }]
    }

    async fn run(name: String, args: Vec<String>) -> Result<(u32, String), String> {
        if name != NAME {
            return Err(format!("there is no command `{name}`"));
        }
        let mut has_parts = false;
        let mut member = None;
        for arg in &args {
            match arg.as_str() {
                "--help" | "-h" => return Ok((0, help())),
                "--where" => has_parts = true,
                other if other.starts_with('-') || member.is_some() => {
                    return Ok((2, format!("usage: {NAME} {USAGE}\n")));
                }
                other => member = Some(other),
            }
        }
        let mut links = workspace::links();
        if let Some(wanted) = member {
            if !workspace::members().iter().any(|it| it.name == wanted) {
                return Ok((1, format!("there is no member `{wanted}`\n")));
            }
            links.retain(|it| it.importer == wanted || it.provider == wanted);
        }
        if links.is_empty() {
            return Ok((0, "no component that is loaded has links\n".into()));
        }
        links.sort_by_key(|it| std::cmp::Reverse(it.traffic.as_ref().map_or(0, |it| it.busy)));
        Ok((0, table(&links, has_parts)))
    }
}

fn help() -> String {
    format!(
        "usage: {NAME} {USAGE}\n\nShows for each link, those with the most time first, how many calls went over it \
         since it was made,\nhow many of them failed, and what one took.\n\n  --where  show where that time went, \
         where it is measured: between processes, from the first time that\n           somebody asks for it\n  MEMBER   show \
         the links of this component or provider alone\n"
    )
}

fn table(links: &[Link], has_parts: bool) -> String {
    let mut head = vec![
        "IMPORTER",
        "INTERFACE",
        "PROVIDER",
        "CALLS",
        "ERRORS",
        "MEAN",
        "IN ALL",
    ];
    if has_parts {
        head.extend(["ENCODE", "SESSION", "QUEUE", "PROVIDER", "DECODE"]);
    }
    let mut rows = vec![head.iter().map(ToString::to_string).collect()];
    rows.extend(links.iter().map(|it| row(it, has_parts)));
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            rows.iter()
                .map(|row: &Vec<String>| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            // names begin where the column does, numbers end there
            .map(|(at, cell)| match at {
                0..3 => format!("{cell:<0$}", widths[at]),
                _ => format!("{cell:>0$}", widths[at]),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(link: &Link, has_parts: bool) -> Vec<String> {
    let mut cells = vec![
        link.importer.clone(),
        link.interface.clone(),
        link.provider.clone(),
    ];
    match &link.traffic {
        None => cells.extend(["-", "-", "-", "-"].map(String::from)),
        Some(it) => cells.extend([
            it.calls.to_string(),
            it.errors.map_or("-".into(), |errors| errors.to_string()),
            each(it.busy, it.calls),
            time(it.busy),
        ]),
    }
    if has_parts {
        match link
            .traffic
            .as_ref()
            .and_then(|it| it.spent.as_ref())
            .filter(|it| it.calls > 0)
        {
            None => cells.extend(["-", "-", "-", "-", "-"].map(String::from)),
            Some(it) => cells.extend(
                [it.encode, it.session, it.queue, it.provider, it.decode].map(|part| each(part, it.calls)),
            ),
        }
    }
    cells
}

fn each(nanoseconds: u64, calls: u64) -> String {
    if calls == 0 {
        "-".into()
    } else {
        time(nanoseconds / calls)
    }
}

fn time(nanoseconds: u64) -> String {
    let some = nanoseconds as f64;
    for (unit, size) in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)] {
        if some >= size {
            let count = some / size;
            return if count < 10.0 {
                format!("{count:.1} {unit}")
            } else {
                format!("{count:.0} {unit}")
            };
        }
    }
    format!("{nanoseconds} ns")
}

export!(Shown);
