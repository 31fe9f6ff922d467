//! Opening a keyspace: connect, look at its format, make what is missing.
//!
//! Only additions are made, so that processes of the version before go on beside a new one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    errors::{
        BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError,
        FrameHeaderParseError, MetadataError, NewSessionError,
    },
    policies::load_balancing::{DefaultPolicy, LatencyAwarenessBuilder},
};
use tokio::sync::Semaphore;

use super::{
    Address, CqlConfig, FORMAT, STATEMENTS_IN_FLIGHT_MAX, Shared,
    buckets::CUTS,
    cut::Cuts,
    feed::{self, Feed},
    journal,
    lease::{self, Lease},
    rows::{self, Rows},
    spare::{Hedges, Retries, Spare},
    tls,
};
use crate::{Error, Result, Table};

/// Longest time for a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Longest time until a node has answered who it is. The driver would wait until the node closes the connection: Cassandra
/// does so after a minute, also where it was offered no certificate and says nothing of it.
const SESSION_MAX: Duration = Duration::from_secs(15);

/// Longest time for a statement that changes the schema: the nodes must come to agree.
const SCHEMA_MAX: Duration = Duration::from_secs(30);

/// How often it is asked whether the nodes agree on the schema.
const AGREEMENT_LOOK_EVERY: Duration = Duration::from_millis(50);

/// First and longest pause between attempts to connect.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tables whose statements are prepared side by side.
const TABLES_TOGETHER: usize = 4;

/// What may change while somebody waits, and what will not.
enum Trouble {
    Passing(String),
    Lasting(String),
}

/// Opens the keyspace of a configuration.
pub(super) async fn open(config: &CqlConfig, tables: &[&'static Table]) -> Result<Shared> {
    let address = &config.address;
    let cannot = |why: &str| Error::Cluster { address: address.to_string(), why: why.to_owned() };
    let tables = [tables, &[&CUTS]].concat();
    let (begun, mut pause, mut told) = (Instant::now(), PAUSE_FIRST, false);
    loop {
        let why = match attempt(config, &tables).await {
            Ok(shared) => return Ok(shared),
            Err(Trouble::Lasting(why)) => return Err(cannot(&why)),
            Err(Trouble::Passing(why)) => why,
        };
        let left = config.wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(cannot(&format!("{why}; gave up after {} s (--store-wait)", config.wait.as_secs())));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%address, why, wait_s = config.wait.as_secs(), "the cluster cannot be used yet; trying again");
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(config: &CqlConfig, tables: &[&'static Table]) -> std::result::Result<Shared, Trouble> {
    let address = &config.address;
    let session = connect(config).await?;
    let keyspace = &address.keyspace;
    if let Some(replicas) = address.create {
        let made = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}"
        );
        change(&session, made).await?;
    }
    let there = tables_of(&session, keyspace).await?;
    let is_there = |name: &str| there.iter().any(|it| it == name);
    if there.is_empty() && !keyspace_exists(&session, keyspace).await? {
        return Err(Trouble::Lasting(format!(
            "it has no keyspace {keyspace}. Make it, with the replication you want: CREATE KEYSPACE {keyspace} WITH \
             replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}}"
        )));
    }
    if is_there("about") {
        let found = format(&session, keyspace).await?;
        if found.parse() != Ok(FORMAT) {
            return Err(Trouble::Lasting(format!(
                "keyspace {keyspace} has format {found}, this program reads format {FORMAT}: use the version that wrote it, or a newer one"
            )));
        }
    }
    let wanted = [
        ("journal".to_owned(), journal::create(keyspace)),
        ("feed".to_owned(), feed::create(keyspace)),
        ("lease".to_owned(), lease::create(keyspace)),
        (
            "about".to_owned(),
            format!("CREATE TABLE IF NOT EXISTS {keyspace}.about (name text PRIMARY KEY, value text)"),
        ),
    ];
    let all = tables.iter().map(|table| (rows::table_name(table), rows::create(keyspace, table))).chain(wanted);
    let missing: Vec<(String, String)> = all.filter(|(name, _)| !is_there(name)).collect();
    if !missing.is_empty() && !config.writes {
        return Err(Trouble::Passing(format!(
            "keyspace {keyspace} has no table {}: start a process with the role ingest, it makes them",
            missing[0].0
        )));
    }
    if !missing.is_empty() {
        let (begun, count) = (Instant::now(), missing.len());
        for (_, create) in missing {
            change(&session, create).await?;
        }
        session.refresh_metadata().await.map_err(passing)?;
        tracing::info!(keyspace, tables = count, took_ms = begun.elapsed().as_millis() as u64, "made what was missing");
        let put = format!("INSERT INTO {keyspace}.about (name, value) VALUES ('format', '{FORMAT}')");
        change(&session, put).await?;
    }
    prepare(session, config, tables).await.map_err(|e| Trouble::Passing(e.to_string()))
}

async fn prepare(session: Session, config: &CqlConfig, tables: &[&'static Table]) -> Result<Shared> {
    let address = &config.address;
    let spare = Arc::new(Spare::default());
    let reads = reading(&spare);
    let each: Vec<_> = tables.iter().map(|table| numbered(&session, table, address, &reads)).collect();
    let prepared: HashMap<u8, Rows> = stream::iter(each).buffer_unordered(TABLES_TOGETHER).try_collect().await?;
    let lease = Lease::prepare(&session, address).await?;
    let feed = Feed::prepare(&session, address).await?;
    Ok(Shared {
        session,
        address: address.clone(),
        rows: prepared,
        lease,
        feed,
        statements: Arc::new(Semaphore::new(STATEMENTS_IN_FLIGHT_MAX)),
        spare,
        cuts: Cuts::default(),
        seed: RandomState::new().hash_one(std::process::id()),
        ended: Mutex::new(None),
    })
}

async fn numbered(
    session: &Session,
    table: &'static Table,
    address: &Address,
    reads: &ExecutionProfileHandle,
) -> Result<(u8, Rows)> {
    Ok((table.id, Rows::prepare(session, table, address, reads).await?))
}

/// How rows are read: a node that is slower than the others is asked last, and second tries share one budget.
fn reading(spare: &Arc<Spare>) -> ExecutionProfileHandle {
    let nodes = DefaultPolicy::builder().latency_awareness(LatencyAwarenessBuilder::new()).build();
    ExecutionProfile::builder()
        .load_balancing_policy(nodes)
        .retry_policy(Arc::new(Retries(Arc::clone(spare))))
        .speculative_execution_policy(Some(Arc::new(Hedges(Arc::clone(spare)))))
        .build()
        .into_handle()
}

async fn connect(config: &CqlConfig) -> std::result::Result<Session, Trouble> {
    let address = &config.address;
    let profile = ExecutionProfile::builder()
        .consistency(address.writes.consistency())
        .serial_consistency(Some(address.writes.serial()))
        .request_timeout(Some(address.read_deadline))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&address.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECT_MAX)
        .schema_agreement_interval(AGREEMENT_LOOK_EVERY)
        // Once for all tables that are made, instead of after each.
        .refresh_metadata_on_auto_schema_agreement(false)
        // The driver needs to know only who holds which tokens.
        .keyspaces_to_fetch([address.keyspace.as_str()]);
    if let Some((name, password)) = &config.login {
        builder = builder.user(name, password);
    }
    if let Some(tls) = &config.tls {
        builder = builder.tls_context(Some(Arc::clone(&tls.client)));
    }
    if let Some(datacenter) = &address.datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    let Ok(built) = tokio::time::timeout(SESSION_MAX, builder.build()).await else {
        let hint = match &config.tls {
            Some(tls) if !tls.shows_certificate() => {
                "; one that asks for a certificate needs --store-cert, --store-key"
            }
            Some(_) => "",
            None => "; one that speaks TLS only needs --store-ca",
        };
        return Err(Trouble::Passing(format!(
            "nodes take connections and answer nothing for {} s{hint}",
            SESSION_MAX.as_secs()
        )));
    };
    built.map_err(|e| {
        if is_refused_login(&e) {
            let who = match &config.login {
                Some((name, _)) => format!("it refuses the password of {name}: see --store-user and --store-password"),
                None => "it asks for a name and a password: set --store-user and --store-password".into(),
            };
            return Trouble::Lasting(who);
        }
        if let Some(why) = connection_error(&e).and_then(io_error).and_then(tls::refusal) {
            return Trouble::Lasting(why);
        }
        let hint = if config.tls.is_none() { "; a cluster that speaks TLS only needs --store-ca" } else { "" };
        Trouble::Passing(format!("no node can be reached: {}{hint}", short(&e)))
    })
}

/// Whether nodes were reached and did not let us in.
fn is_refused_login(e: &NewSessionError) -> bool {
    let Some(ConnectionError::ConnectionSetupRequestError(e)) = connection_error(e) else { return false };
    matches!(
        &e.error,
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication
    )
}

/// What the last connection failed of.
fn connection_error(e: &NewSessionError) -> Option<&ConnectionError> {
    match e {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => Some(last_connection_error),
        _ => None,
    }
}

/// What the system, or TLS, said of a connection. A node may refuse us only after the handshake has ended for our side.
fn io_error(e: &ConnectionError) -> Option<&std::io::Error> {
    let setup = match e {
        ConnectionError::IoError(io) => return Some(io),
        ConnectionError::ConnectionSetupRequestError(e) => &e.error,
        _ => return None,
    };
    let ConnectionSetupRequestErrorKind::BrokenConnection(broken) = setup else { return None };
    match broken.downcast_ref()? {
        BrokenConnectionErrorKind::FrameHeaderParseError(FrameHeaderParseError::HeaderIoError(io))
        | BrokenConnectionErrorKind::WriteError(io) => Some(io),
        _ => None,
    }
}

/// The cause without the layers above it.
fn short(e: &NewSessionError) -> String {
    connection_error(e).map_or_else(|| e.to_string(), ConnectionError::to_string)
}

fn passing(e: impl std::fmt::Display) -> Trouble {
    Trouble::Passing(e.to_string())
}

/// Changes the schema and waits until the nodes agree.
async fn change(session: &Session, text: String) -> std::result::Result<(), Trouble> {
    let mut statement = scylla::statement::unprepared::Statement::new(text);
    statement.set_request_timeout(Some(SCHEMA_MAX));
    statement.set_is_idempotent(true);
    session.query_unpaged(statement, ()).await.map(drop).map_err(passing)
}

async fn keyspace_exists(session: &Session, keyspace: &str) -> std::result::Result<bool, Trouble> {
    let text = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'");
    let result = session.query_unpaged(text, ()).await.map_err(passing)?.into_rows_result().map_err(passing)?;
    Ok(result.rows_num() > 0)
}

async fn tables_of(session: &Session, keyspace: &str) -> std::result::Result<Vec<String>, Trouble> {
    let text = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    let result = session.query_unpaged(text, ()).await.map_err(passing)?.into_rows_result().map_err(passing)?;
    let names = result.rows::<(String,)>().map_err(passing)?;
    names.map(|row| row.map(|(name,)| name).map_err(passing)).collect()
}

async fn format(session: &Session, keyspace: &str) -> std::result::Result<String, Trouble> {
    let text = format!("SELECT value FROM {keyspace}.about WHERE name = 'format'");
    let result = session.query_unpaged(text, ()).await.map_err(passing)?.into_rows_result().map_err(passing)?;
    let row = result.maybe_first_row::<(String,)>().map_err(passing)?;
    // A start that ended between making the table and filling it.
    Ok(row.map_or_else(|| FORMAT.to_string(), |(found,)| found))
}
