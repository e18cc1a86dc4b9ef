//! The embedded database: one file, written in transactions that are on the disk when they end.
//!
//! A file that is damaged, or that a newer version wrote, is set aside under another name and never silently
//! trusted: checksums of all pages are checked when the file is opened, and every record has to be one that
//! this version knows.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    CommitError, Database, DatabaseError, ReadableTable, StorageError, TableDefinition, TableError,
    TransactionError,
};

use super::{Lost, Opened, Store, StoreError};
use crate::proto::persist::{Change, Key, Record};

/// Name of the file in the state directory.
pub const FILE: &str = "state.redb";

/// Says which format the tables have. A version that changes the meaning of what is there raises the number.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 1;

/// Keys and values are JSON: legible to whoever has to find out what a router remembered.
type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const REGISTER_NONCE: Table = Table::new("register-nonce");
const LAST_NONCES: Table = Table::new("last-nonces");
const RECENT_REGISTERS: Table = Table::new("recent-registers");
const OWN_MAPPINGS: Table = Table::new("own-mappings");
const MOVED: Table = Table::new("moved");
const TABLES: [Table; 5] = [REGISTER_NONCE, LAST_NONCES, RECENT_REGISTERS, OWN_MAPPINGS, MOVED];

/// Memory that the database may use for pages, in bytes: what is there is read once, at start.
const CACHE: usize = 2 << 20;

const fn table(key: &Key) -> Table {
    match key {
        Key::RegisterNonce => REGISTER_NONCE,
        Key::LastNonce { .. } => LAST_NONCES,
        Key::RecentRegister { .. } => RECENT_REGISTERS,
        Key::OwnMapping(_) => OWN_MAPPINGS,
        Key::Moved(_) | Key::Away(_) => MOVED,
    }
}

/// The database of one router.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    /// Closed after an error: what follows one is not to be trusted until the file is opened again.
    database: Option<Database>,
}

/// Why a file could not be opened.
#[derive(Debug)]
enum Refused {
    /// It holds something, but nothing that can be used.
    Unusable(String),
    /// It may be fine.
    Other(StoreError),
}

impl Embedded {
    /// Opens the database in the directory `dir`, which is made if it does not exist. `stamp` goes into the
    /// name of a file that is set aside, and should differ from one start to the next: seconds since 1970,
    /// say.
    ///
    /// # Errors
    /// If there can't be a database in the directory at the moment.
    pub fn open(dir: &Path, stamp: u64) -> Result<Opened<Self>, StoreError> {
        let at_dir = |error| StoreError::Io { path: dir.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(at_dir)?;
        let path = dir.join(FILE);
        let is_new = !path.try_exists().map_err(at_dir)?;
        let opened = match open(&path) {
            Ok(opened) => opened,
            Err(Refused::Other(error)) => return Err(error),
            Err(Refused::Unusable(reason)) if is_new => {
                return Err(StoreError::Database { path, reason });
            }
            Err(Refused::Unusable(reason)) => {
                let aside = free_name(&path, stamp);
                fs::rename(&path, &aside).map_err(at_dir)?;
                let fresh = open(&path).map_err(|refused| refused.into_error(&path))?;
                Opened { lost: Some(Lost { reason, set_aside: Some(aside) }), ..fresh }
            }
        };
        if is_new || opened.lost.is_some() {
            // The name is to survive a power cut, too.
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(at_dir)?;
        }
        Ok(opened)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn try_commit(&self, changes: &[Change]) -> Result<(), Refused> {
        let Some(database) = &self.database else { return Err(Refused::Unusable("it is closed".into())) };
        let transaction = database.begin_write()?;
        for change in changes {
            let key = change.key();
            let mut table = transaction.open_table(table(&key))?;
            let key = json(&key)?;
            match change {
                Change::Put(record) => drop(table.insert(key.as_slice(), json(record)?.as_slice())?),
                Change::Remove(_) => drop(table.remove(key.as_slice())?),
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Embedded {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let result = guarded(|| {
            if self.database.is_none() {
                self.database = Some(Database::open(&self.path)?);
            }
            self.try_commit(changes)
        });
        result.map_err(|refused| {
            self.database = None;
            refused.into_error(&self.path)
        })
    }
}

impl Refused {
    fn into_error(self, path: &Path) -> StoreError {
        match self {
            Self::Unusable(reason) => StoreError::Database { path: path.to_owned(), reason },
            Self::Other(StoreError::Io { error, .. }) => StoreError::Io { path: path.to_owned(), error },
            Self::Other(StoreError::InUse { .. }) => StoreError::InUse { path: path.to_owned() },
            Self::Other(error) => error,
        }
    }
}

/// Opens a database and reads all of it.
fn open(path: &Path) -> Result<Opened<Embedded>, Refused> {
    guarded(|| {
        let mut database = Database::builder().set_cache_size(CACHE).create(path)?;
        let intact = database.check_integrity()?;
        let mut records = Vec::new();
        let mut unknown = 0;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get(FORMAT_KEY)?.map(|value| value.value());
            match format {
                None => drop(meta.insert(FORMAT_KEY, FORMAT)?),
                Some(FORMAT) => {}
                Some(other) => {
                    return Err(Refused::Unusable(format!(
                        "its format is {other}, and this version of the router knows {FORMAT}"
                    )));
                }
            }
            for definition in TABLES {
                let table = transaction.open_table(definition)?;
                for row in table.iter()? {
                    let (key, value) = row?;
                    match record(key.value(), value.value()) {
                        Some(record) => records.push(record),
                        None => unknown += 1,
                    }
                }
            }
        }
        transaction.commit()?;
        let lost = match (intact, unknown) {
            (true, 0) => None,
            (false, _) => Some("it was damaged; what could be repaired is used".to_owned()),
            (true, n) => Some(format!("{n} of its records are of no kind that this version knows")),
        };
        Ok(Opened {
            store: Embedded { path: path.to_owned(), database: Some(database) },
            records,
            lost: lost.map(|reason| Lost { reason, set_aside: None }),
        })
    })
    .map_err(|refused| match refused {
        Refused::Other(error) => Refused::Other(Refused::Other(error).into_error(path)),
        refused => refused,
    })
}

/// The record of a row, if it is one that belongs under the row's key.
fn record(key: &[u8], value: &[u8]) -> Option<Record> {
    let (key, record): (Key, Record) =
        (serde_json::from_slice(key).ok()?, serde_json::from_slice(value).ok()?);
    (record.key() == key).then_some(record)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(value).map_err(|error| Refused::Unusable(error.to_string()))
}

/// Runs `work`. The database library is careful with damaged files, but does not promise not to panic on one.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Refused::Unusable("reading it failed unexpectedly: it is damaged".into())))
}

/// A name beside `path` that nothing has yet.
fn free_name(path: &Path, stamp: u64) -> PathBuf {
    let names = (0..1000).map(|n| match n {
        0 => path.with_extension(format!("redb.unusable-{stamp}")),
        n => path.with_extension(format!("redb.unusable-{stamp}-{n}")),
    });
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| path.with_extension("redb.unusable"))
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        let io = |error| Self::Other(StoreError::Io { path: PathBuf::new(), error });
        match error {
            // What is no database at all, or ends too early, comes as such errors.
            StorageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Unusable(error.to_string())
            }
            StorageError::Io(error) => io(error),
            StorageError::PreviousIo => io(io::Error::other("an earlier error has closed the file")),
            StorageError::Corrupted(what) => Self::Unusable(format!("it is damaged: {what}")),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<DatabaseError> for Refused {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(error) => error.into(),
            DatabaseError::DatabaseAlreadyOpen => Self::Other(StoreError::InUse { path: PathBuf::new() }),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<TransactionError> for Refused {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Unusable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::persist::Registrant;
    use crate::types::{Action, MapVersion, Mapping, Nonce, Ttl, XtrId};

    fn nonce(below: u64) -> Record {
        Record::RegisterNonce { below }
    }

    fn samples() -> Vec<Record> {
        let site = || "a site \"with\" [brackets]".to_owned();
        let mut mapping = Mapping::negative(
            "10.0.0.0/8".parse::<ipnet::IpNet>().unwrap().into(),
            Ttl(60),
            Action::NoAction,
        );
        mapping.version = MapVersion::new(7);
        vec![
            nonce(5000),
            Record::LastNonce {
                site: site(),
                registrant: Registrant::Xtr(XtrId([3; 16])),
                key_id: 2,
                nonce: Nonce(u64::MAX),
            },
            Record::LastNonce {
                site: site(),
                registrant: Registrant::Address("2001:db8::1".parse().unwrap()),
                key_id: 2,
                nonce: Nonce(0),
            },
            Record::RecentRegister { site: site(), slot: 9, serial: 265, digest: [0xa5; 12] },
            Record::Away("10.9.0.5/32".parse::<ipnet::IpNet>().unwrap().into()),
            Record::Moved {
                prefix: "10.9.0.5/32".parse::<ipnet::IpNet>().unwrap().into(),
                priority: Some(3),
            },
            Record::OwnMapping(mapping),
        ]
    }

    fn put(records: &[Record]) -> Vec<Change> {
        records.iter().cloned().map(Change::Put).collect()
    }

    fn sorted(mut records: Vec<Record>) -> Vec<Record> {
        records.sort_by_key(Record::key);
        records
    }

    #[test]
    fn every_kind_of_record_comes_back_and_the_last_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not/there/yet");
        let opened = Embedded::open(&state, 1).unwrap();
        assert!(opened.records.is_empty() && opened.lost.is_none());
        let mut store = opened.store;
        store.commit(&put(&samples())).unwrap();
        store
            .commit(&[
                Change::Put(nonce(9000)),
                Change::Remove(Key::OwnMapping("10.0.0.0/8".parse::<ipnet::IpNet>().unwrap().into())),
            ])
            .unwrap();
        drop(store);
        let opened = Embedded::open(&state, 2).unwrap();
        let mut expected = samples();
        expected[0] = nonce(9000);
        expected.pop();
        assert_eq!(sorted(opened.records), sorted(expected));
        assert_eq!(opened.lost, None);
    }

    #[test]
    fn two_routers_do_not_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Embedded::open(dir.path(), 1).unwrap();
        let error = Embedded::open(dir.path(), 1).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        assert!(error.to_string().ends_with("another router uses it"), "{error}");
        assert_eq!(error.remedy(), "give each router its own [router] state-dir");
        drop(first);
        Embedded::open(dir.path(), 1).unwrap();
    }

    /// Whatever is in the file: the router gets a store, and either the records or a word on where the file
    /// went.
    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Embedded::open(dir.path(), 1).unwrap().store;
        store.commit(&put(&samples())).unwrap();
        drop(store);
        let file = dir.path().join(FILE);
        let good = fs::read(&file).unwrap();
        let mut set_aside = 0;
        let mut damaged: Vec<Vec<u8>> =
            vec![b"not a database".to_vec(), vec![0; good.len()], good[..100].to_vec()];
        damaged.push(good[..good.len() / 2].to_vec());
        // A byte in each of the first pages, where the headers and the rows are.
        for at in (0..good.len().min(64 << 10)).step_by(1021) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            damaged.push(bytes);
        }
        for (n, bytes) in damaged.iter().enumerate() {
            fs::write(&file, bytes).unwrap();
            let mut opened = Embedded::open(dir.path(), n as u64 + 100).unwrap();
            match &opened.lost {
                Some(Lost { set_aside: Some(aside), reason }) => {
                    assert_eq!(fs::read(aside).unwrap().len(), bytes.len(), "{reason}");
                    assert!(opened.records.is_empty());
                    set_aside += 1;
                }
                Some(Lost { set_aside: None, .. }) => {}
                None => {
                    assert_eq!(sorted(opened.records.clone()), sorted(samples()), "damage {n} was trusted")
                }
            }
            opened.store.commit(&[Change::Put(nonce(1))]).unwrap();
        }
        assert!(set_aside >= 4, "{set_aside}");
    }

    #[test]
    fn a_file_of_a_newer_version_is_set_aside_and_unknown_records_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        drop(Embedded::open(dir.path(), 1).unwrap());
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(LAST_NONCES)
            .unwrap()
            .insert(b"\"of-the-future\"".as_slice(), b"{}".as_slice())
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let opened = Embedded::open(dir.path(), 2).unwrap();
        let lost = opened.lost.unwrap();
        assert!(lost.reason.contains("1 of its records") && lost.set_aside.is_none(), "{lost:?}");
        drop(opened.store);

        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(FORMAT_KEY, 2).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let opened = Embedded::open(dir.path(), 3).unwrap();
        let lost = opened.lost.unwrap();
        assert!(lost.reason.contains("format is 2"), "{lost:?}");
        assert!(lost.set_aside.unwrap().exists() && opened.records.is_empty());
    }

    #[test]
    fn where_nothing_can_be_written_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Embedded::open(&file.join("state"), 1).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(error.remedy().contains("state-dir"), "{error}");
        // Read-only for everybody, root included.
        let error = Embedded::open(Path::new("/proc/eidolon"), 1).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}
