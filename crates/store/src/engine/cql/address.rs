//! Where a cluster is and how it is spoken to, as one line: `cql://host:port,host:port/keyspace?option=value`.

use std::{fmt, str::FromStr, time::Duration};

use super::Names;

/// The port of CQL where none is named.
const PORT: u16 = 9042;

/// Most contact points taken from an address; the driver finds the others by itself.
const CONTACT_POINTS_MAX: usize = 32;

/// How many replicas must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// A majority of those in the datacenter that is asked. All ingesters must then be in one datacenter.
    LocalQuorum,
    /// A majority of all.
    Quorum,
    /// One in the datacenter that is asked: for reads only, and with what docs/cql.md says about it.
    LocalOne,
}

/// An address, taken apart. What it shows holds no secret: there is none in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`, at least one.
    pub contact_points: Vec<String>,
    /// The keyspace, lower case.
    pub keyspace: String,
    /// The datacenter whose nodes are asked; any where none is named.
    pub datacenter: Option<String>,
    /// Agreement of writes, and of reads that follow them.
    pub writes: Agreement,
    /// Agreement of callers' reads.
    pub reads: Agreement,
    /// Make the keyspace if it is missing, with so many replicas in each datacenter.
    pub create: Option<u8>,
    /// Longest time for one read, its repetitions included.
    pub read_deadline: Duration,
    /// Where TLS is spoken: what the certificates of nodes must name.
    pub names: Names,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write it as cql://host:port,host:port/keyspace";
        let rest = text.strip_prefix("cql://").ok_or_else(|| format!("{text:?} is no address of a cluster: {form}"))?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, keyspace) = rest.split_once('/').ok_or_else(|| format!("{text:?} names no keyspace: {form}"))?;
        if hosts.contains('@') {
            return Err("the address of a cluster holds no password: use --store-user and --store-password".into());
        }
        let contact_points: Vec<String> = hosts
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(|host| with_port(host).ok_or_else(|| format!("{host:?} is no host:port")))
            .collect::<Result<_, _>>()?;
        if contact_points.is_empty() || contact_points.len() > CONTACT_POINTS_MAX {
            return Err(format!("name 1 to {CONTACT_POINTS_MAX} nodes: {form}"));
        }
        // What CQL takes without quotes, so that nothing here needs any.
        let is_name = keyspace.len() <= 48
            && keyspace.starts_with(|c: char| c.is_ascii_lowercase())
            && keyspace.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            return Err(format!(
                "{keyspace:?} is no keyspace: use at most 48 lower case letters, digits and _, a letter first"
            ));
        }
        let mut address = Self {
            contact_points,
            keyspace: keyspace.to_owned(),
            datacenter: None,
            writes: Agreement::LocalQuorum,
            reads: Agreement::LocalQuorum,
            create: None,
            read_deadline: Duration::from_secs(2),
            names: Names::Address,
        };
        for (name, value) in
            options.split('&').filter(|it| !it.is_empty()).map(|it| it.split_once('=').unwrap_or((it, "")))
        {
            let wrong = |want: &str| format!("{name}={value} in the address of the cluster: {want}");
            match name {
                "dc" if !value.is_empty() => address.datacenter = Some(value.to_owned()),
                "writes" => {
                    address.writes = match value {
                        "local_quorum" => Agreement::LocalQuorum,
                        "quorum" => Agreement::Quorum,
                        _ => return Err(wrong("use local_quorum or quorum")),
                    }
                }
                "reads" => {
                    address.reads = match value {
                        "local_quorum" => Agreement::LocalQuorum,
                        "quorum" => Agreement::Quorum,
                        "local_one" => Agreement::LocalOne,
                        _ => return Err(wrong("use local_quorum, quorum or local_one")),
                    }
                }
                "create" => {
                    let replicas = value.parse().ok().filter(|n| (1..=9).contains(n));
                    address.create = Some(replicas.ok_or_else(|| wrong("use 1 to 9 replicas"))?);
                }
                "read_deadline_ms" => {
                    let ms = value.parse().ok().filter(|ms| (10..=60_000).contains(ms));
                    address.read_deadline = Duration::from_millis(ms.ok_or_else(|| wrong("use 10 to 60000"))?);
                }
                "tls" => {
                    address.names = match value {
                        "address" => Names::Address,
                        "any_name" => Names::Any,
                        _ => return Err(wrong("use address or any_name, and --store-ca to speak TLS")),
                    }
                }
                _ => return Err(wrong("options are dc, writes, reads, create, read_deadline_ms and tls")),
            }
        }
        Ok(address)
    }
}

fn with_port(host: &str) -> Option<String> {
    let bracketed = host.starts_with('[');
    match host.rsplit_once(':').filter(|(name, _)| !bracketed || name.ends_with(']')) {
        Some((name, port)) => (!name.is_empty() && port.parse::<u16>().is_ok()).then(|| host.to_owned()),
        None => Some(format!("{host}:{PORT}")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cql://{}/{}", self.contact_points.join(","), self.keyspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let address: Address = "cql://a,b:9043,[::1],[::1]:7/plane?dc=eu&reads=local_one&create=3".parse().unwrap();
        assert_eq!(address.contact_points, ["a:9042", "b:9043", "[::1]:9042", "[::1]:7"]);
        assert_eq!((address.keyspace.as_str(), address.datacenter.as_deref()), ("plane", Some("eu")));
        assert_eq!((address.writes, address.reads), (Agreement::LocalQuorum, Agreement::LocalOne));
        assert_eq!(address.create, Some(3));
        assert_eq!(address.to_string(), "cql://a:9042,b:9043,[::1]:9042,[::1]:7/plane");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write() {
        for (text, said) in [
            ("http://a/b", "cql://host:port"),
            ("cql://a", "names no keyspace"),
            ("cql:///k", "name 1 to 32"),
            ("cql://a:x/k", "no host:port"),
            ("cql://u:p@a/k", "--store-password"),
            ("cql://a/", "no keyspace"),
            ("cql://a/K", "lower case"),
            ("cql://a/k;drop", "lower case"),
            ("cql://a/k?reads=one", "local_one"),
            ("cql://a/k?writes=local_one", "local_quorum or quorum"),
            ("cql://a/k?create=0", "1 to 9"),
            ("cql://a/k?what=1", "options are"),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
