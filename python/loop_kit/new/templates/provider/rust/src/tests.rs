use futures::TryStreamExt;
use loop_provider::{Address, Value};

use super::store::{Error, Provider as _};
use super::*;

fn store(grant: &str, config: &str) -> Store {
    let json = |text: &str| text.parse::<Value>().ok();
    let link = Link {
        grant: json(grant),
        config: json(config),
        ..Link::default()
    };
    Store::new(&link).expect("every link is served")
}

async fn set(store: &Store, key: &str, value: &str) -> Result<(), Error> {
    let set = store.set(Call::default(), key.into(), value.into()).await;
    set.expect("it answers")
}

async fn get(store: &Store, key: &str) -> Result<Option<String>, Error> {
    store.get(Call::default(), key.into()).await.expect("it answers")
}

#[tokio::test]
async fn what_was_set_is_got_and_listed_in_order() {
    let store = store("", "");
    set(&store, "b", "2").await.unwrap();
    set(&store, "a", "1").await.unwrap();
    assert_eq!(get(&store, "a").await, Ok(Some("1".into())));
    assert_eq!(get(&store, "c").await, Ok(None));
    let keys = store.keys(Call::default()).await.expect("it answers");
    assert_eq!(keys.try_collect::<Vec<_>>().await, Ok(vec!["a".into(), "b".into()]));
}

#[tokio::test]
async fn a_grant_is_kept_to() {
    let store = store(r#"{"prefix": "cart/"}"#, "");
    set(&store, "cart/1", "apple").await.unwrap();
    assert_eq!(get(&store, "orders/1").await, Err(Error::Denied));
}

#[tokio::test]
async fn a_full_store_says_so() {
    let store = store("", r#"{"most": 1}"#);
    set(&store, "a", "1").await.unwrap();
    assert_eq!(set(&store, "b", "2").await, Err(Error::Full(1)));
}

#[tokio::test]
async fn it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = Address::Unix(folder.path().join("socket"));
    let server = provider().serve(&address).await.expect("it listens");
    assert_eq!(server.addresses(), [address]);
}
