//! Which requests a component takes: methods and path patterns, each with a name of its own.

use http::Method;
use loop_engine::{Result, Value};
use matchit::Router;

use super::code::{ErrorCode, words};
use crate::value::{args, items, string};

/// Routes that a server has at most.
const MAX: usize = 1000;

/// The routes of a server; with none, every request is taken.
#[derive(Default)]
pub(super) struct Routes {
    paths: Router<Vec<Route>>,
    any: bool,
}

#[derive(Clone)]
struct Route {
    name: String,
    /// Empty: every method.
    methods: Vec<Method>,
}

/// What a request matched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    pub route: String,
    /// The parts of the path that the pattern names, as they were sent.
    pub params: Vec<(String, String)>,
}

/// Why a request is not for the component.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Path,
    /// With the methods that the path has.
    Method(String),
}

impl Routes {
    /// Reads the list of records `route`. Errors within: what the guest is told.
    pub fn parse(v: Value) -> Result<Result<Self, ErrorCode>> {
        let bad = |what: String| Ok(Err(ErrorCode::RequestUriInvalid(words(what))));
        let records = items(v)?;
        if records.len() > MAX {
            return bad(format!("a server has at most {MAX} routes"));
        }
        let mut by_path: Vec<(String, Vec<Route>)> = vec![];
        let any = records.is_empty();
        for record in records {
            let [name, methods, path] = args(items(record)?)?;
            let (name, path) = (string(name)?, string(path)?);
            let mut route = Route {
                name,
                methods: vec![],
            };
            for method in items(methods)? {
                let Ok(method) = Method::from_bytes(method.as_str()?.as_bytes()) else {
                    return bad(format!("the route `{}` has a method that is none", route.name));
                };
                route.methods.push(method);
            }
            match by_path.iter_mut().find(|(p, _)| *p == path) {
                Some((_, routes)) => routes.push(route),
                None => by_path.push((path, vec![route])),
            }
        }
        let mut paths = Router::new();
        for (path, routes) in by_path {
            if !path.starts_with('/') {
                return bad(format!("the path `{path}` must start with /"));
            }
            if let Err(e) = paths.insert(path.clone(), routes) {
                return bad(format!("the path `{path}`: {e}"));
            }
        }
        Ok(Ok(Routes { paths, any }))
    }

    pub fn find(&self, method: &Method, path: &str) -> Result<Matched, Missed> {
        if self.any {
            return Ok(Matched::default());
        }
        let found = self.paths.at(path).map_err(|_| Missed::Path)?;
        // whoever answers GET answers HEAD: the body is left out behind it
        let takes = |r: &&Route| {
            r.methods.is_empty()
                || r.methods.contains(method)
                || *method == Method::HEAD && r.methods.contains(&Method::GET)
        };
        match found.value.iter().find(takes) {
            Some(route) => Ok(Matched {
                route: route.name.clone(),
                params: found
                    .params
                    .iter()
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .collect(),
            }),
            None => {
                let mut all: Vec<_> = found
                    .value
                    .iter()
                    .flat_map(|r| &r.methods)
                    .map(Method::as_str)
                    .collect();
                all.sort_unstable();
                all.dedup();
                Err(Missed::Method(all.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, methods: &[&str], path: &str) -> Value {
        let methods = methods.iter().map(|m| Value::string(*m)).collect();
        Value::Fields(vec![
            Value::string(name),
            Value::List(methods),
            Value::string(path),
        ])
    }

    fn routes(all: Vec<Value>) -> Routes {
        Routes::parse(Value::List(all)).unwrap().unwrap()
    }

    #[test]
    fn the_most_exact_path_wins_and_names_its_parts() {
        let r = routes(vec![
            route("user", &["GET"], "/users/{id}"),
            route("me", &[], "/users/me"),
            route("new", &["POST"], "/users/{id}"),
            route("file", &["GET"], "/files/{*path}"),
        ]);
        let found = |method: &str, path| r.find(&method.parse().unwrap(), path);
        let user = found("GET", "/users/7").unwrap();
        assert_eq!(
            (&*user.route, &*user.params),
            ("user", &[("id".into(), "7".into())][..])
        );
        assert_eq!(found("HEAD", "/users/7").unwrap().route, "user");
        assert_eq!(found("POST", "/users/7").unwrap().route, "new");
        assert_eq!(found("DELETE", "/users/me").unwrap().route, "me");
        assert_eq!(found("GET", "/files/a/b%2Fc").unwrap().params[0].1, "a/b%2Fc");
        assert_eq!(found("PUT", "/users/7"), Err(Missed::Method("GET, POST".into())));
        assert_eq!(found("GET", "/"), Err(Missed::Path));
        assert_eq!(
            routes(vec![]).find(&Method::GET, "/x").unwrap(),
            Matched::default()
        );
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for bad in [
            route("a", &["G T"], "/"),
            route("a", &[], "x"),
            route("a", &[], "/{"),
        ] {
            assert!(Routes::parse(Value::List(vec![bad])).unwrap().is_err());
        }
        let clash = vec![route("a", &[], "/{x}"), route("b", &[], "/{y}")];
        assert!(Routes::parse(Value::List(clash)).unwrap().is_err());
    }
}
