//! The database: a table for each bucket, and one of their names and sizes.
//!
//! Sizes are kept by triggers from the moment on that a grant asks for a bound, so that every writer keeps them, in
//! whatever process. The provider in Python has the same tables.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, Transaction, TransactionBehavior, params};
use serde::Deserialize;

use super::Refusal;

/// What is known of a write that was answered.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Durability {
    /// It is on the disk: it outlives the machine's end.
    #[default]
    Full,
    /// The system has it: it outlives the process's end.
    Normal,
}

/// How long one writer waits for another process.
const PATIENCE: Duration = Duration::from_secs(5);

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS loop_buckets (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER)";

pub(super) struct Db {
    write: Mutex<Connection>,
    /// Reads do not wait for a write. None in memory, which each connection has of its own.
    read: Option<Mutex<Connection>>,
}

impl Db {
    pub fn open(path: Option<&Path>, durability: Durability) -> Result<Self> {
        let connect = || -> Result<Connection> {
            let made = match path {
                None => Connection::open_in_memory()?,
                Some(path) => Connection::open(path)?,
            };
            made.busy_timeout(PATIENCE)?;
            made.set_prepared_statement_cache_capacity(256);
            Ok(made)
        };
        let write = connect()?;
        if path.is_some() {
            write.pragma_update(None, "journal_mode", "wal")?;
        }
        let synchronous = match durability {
            Durability::Full => "full",
            Durability::Normal => "normal",
        };
        write.pragma_update(None, "synchronous", synchronous)?;
        write.execute(SCHEMA, [])?;
        let read = path.map(|_| connect().map(Mutex::new)).transpose()?;
        Ok(Db {
            write: Mutex::new(write),
            read,
        })
    }

    /// The number of a bucket, which is made where there is none. `counted`: its size is kept from now on.
    pub fn bucket(&self, name: &str, counted: bool) -> Result<i64> {
        let mut write = lock(&self.write);
        let t = write.transaction_with_behavior(TransactionBehavior::Immediate)?;
        t.execute("INSERT OR IGNORE INTO loop_buckets (name) VALUES (?1)", [name])?;
        let find = "SELECT number, size IS NOT NULL FROM loop_buckets WHERE name = ?1";
        let (n, is_counted): (i64, bool) = t.query_row(find, [name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        t.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS loop_bucket_{n} (
                id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL)"
        ))?;
        if counted && !is_counted {
            t.execute_batch(&counting(n))?;
        }
        t.commit()?;
        Ok(n)
    }

    pub fn get(&self, table: i64, key: &str) -> Result<Option<Vec<u8>>> {
        let read = self.reading();
        let sql = format!("SELECT value FROM loop_bucket_{table} WHERE key = ?1");
        let mut get = read.prepare_cached(&sql)?;
        get.query_row([key], |row| row.get(0)).optional()
    }

    pub fn exists(&self, table: i64, key: &str) -> Result<bool> {
        let read = self.reading();
        let sql = format!("SELECT 1 FROM loop_bucket_{table} WHERE key = ?1");
        read.prepare_cached(&sql)?.exists([key])
    }

    /// Keys after the place `after`, and the place of the last if there are more.
    pub fn list(&self, table: i64, after: i64, most: usize) -> Result<(Vec<String>, Option<i64>)> {
        let read = self.reading();
        let sql = format!("SELECT id, key FROM loop_bucket_{table} WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut list = read.prepare_cached(&sql)?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let found = list.query_map(params![after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut found = found.collect::<Result<Vec<(i64, String)>>>()?;
        let more = found.len() > most;
        found.truncate(most);
        let cursor = found.last().filter(|_| more).map(|(id, _)| *id);
        Ok((found.into_iter().map(|(_, key)| key).collect(), cursor))
    }

    pub fn set(&self, table: i64, pairs: &[(String, Vec<u8>)], max_size: Option<u64>) -> Result<(), Refusal> {
        let mut write = lock(&self.write);
        if let ([(key, value)], None) = (pairs, max_size) {
            put(&write, table, key, value)?;
            return Ok(());
        }
        let t = write.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (key, value) in pairs {
            put(&t, table, key, value)?;
        }
        finish(t, table, max_size)
    }

    pub fn delete(&self, table: i64, keys: &[String]) -> Result<()> {
        let mut write = lock(&self.write);
        let sql = format!("DELETE FROM loop_bucket_{table} WHERE key = ?1");
        if let [key] = keys {
            write.prepare_cached(&sql)?.execute([key])?;
            return Ok(());
        }
        let t = write.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for key in keys {
            t.prepare_cached(&sql)?.execute([key])?;
        }
        t.commit()
    }

    /// Adds to a number that is kept as decimal digits.
    pub fn increment(
        &self,
        table: i64,
        key: &str,
        delta: u64,
        max_size: Option<u64>,
    ) -> Result<u64, Refusal> {
        let mut write = lock(&self.write);
        let t = write.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!("SELECT value FROM loop_bucket_{table} WHERE key = ?1");
        let old: Option<Vec<u8>> = t
            .prepare_cached(&sql)?
            .query_row([key], |row| row.get(0))
            .optional()?;
        let old = match old {
            None => 0,
            Some(digits) => {
                let number = std::str::from_utf8(&digits).ok().and_then(|d| d.parse().ok());
                number.ok_or_else(|| Refusal::Other("the value is no number in decimal digits".into()))?
            }
        };
        let new: u64 = u64::checked_add(old, delta)
            .ok_or_else(|| Refusal::Other("the number would be larger than 64 bits hold".into()))?;
        put(&t, table, key, new.to_string().as_bytes())?;
        finish(t, table, max_size)?;
        Ok(new)
    }

    fn reading(&self) -> MutexGuard<'_, Connection> {
        lock(self.read.as_ref().unwrap_or(&self.write))
    }
}

fn put(to: &Connection, table: i64, key: &str, value: &[u8]) -> Result<()> {
    let sql = format!(
        "INSERT INTO loop_bucket_{table} (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    );
    to.prepare_cached(&sql)?.execute(params![key, value]).map(drop)
}

/// Commits, where the bucket's size is within its bound. Otherwise nothing has happened.
fn finish(t: Transaction<'_>, table: i64, max_size: Option<u64>) -> Result<(), Refusal> {
    if let Some(most) = max_size {
        let sql = "SELECT size FROM loop_buckets WHERE number = ?1";
        let size: i64 = t.prepare_cached(sql)?.query_row([table], |row| row.get(0))?;
        if size as u64 > most {
            let words =
                format!("the bucket would have {size} bytes; `max-size` of its grant lets it have {most}");
            return Err(Refusal::Other(words));
        }
    }
    Ok(t.commit()?)
}

/// Counts a bucket, and keeps counting.
fn counting(n: i64) -> String {
    let size = |row: &str| format!("length(CAST({row}key AS BLOB)) + length({row}value)");
    let (all, new, old) = (size(""), size("new."), size("old."));
    format!(
        "UPDATE loop_buckets SET size = (SELECT coalesce(sum({all}), 0) FROM loop_bucket_{n}) WHERE number = {n};
         CREATE TRIGGER loop_insert_{n} AFTER INSERT ON loop_bucket_{n} BEGIN
             UPDATE loop_buckets SET size = size + {new} WHERE number = {n}; END;
         CREATE TRIGGER loop_delete_{n} AFTER DELETE ON loop_bucket_{n} BEGIN
             UPDATE loop_buckets SET size = size - ({old}) WHERE number = {n}; END;
         CREATE TRIGGER loop_update_{n} AFTER UPDATE ON loop_bucket_{n} BEGIN
             UPDATE loop_buckets SET size = size + {new} - ({old}) WHERE number = {n}; END;"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
