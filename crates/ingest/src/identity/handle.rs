//! From a handle to a DID: DNS and HTTPS, or a resolver that the operator named.

use std::time::Duration;

use gp_atproto::{did, handle};
use hickory_resolver::{TokioResolver, proto::rr::RData};

use crate::{
    Error, IdentityConfig, Result,
    http::{Http, Trust},
    identity::escape,
};

/// Largest answer of a well-known address or of a resolver.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Top-level names that do not belong to the public network.
const INNER_TLDS: &[&str] = &["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"];

/// Finds the DID of a handle.
pub(crate) struct Handles {
    dns: Option<TokioResolver>,
    resolver_url: Option<String>,
    lookup_max: Duration,
}

impl Handles {
    /// Takes name servers from the system. Without any, only HTTPS is asked.
    pub(crate) fn new(config: &IdentityConfig) -> Self {
        let dns = match &config.handle_resolver_url {
            Some(_) => None,
            None => TokioResolver::builder_tokio()
                .and_then(|builder| builder.build())
                .inspect_err(|error| tracing::warn!(%error, "no DNS for handles; only HTTPS is asked"))
                .ok(),
        };
        let resolver_url = config.handle_resolver_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        Self { dns, resolver_url, lookup_max: config.lookup_max }
    }

    /// The DID that a handle points to, not checked against its document. Nothing if everybody who was asked says so;
    /// an error if somebody could not be asked.
    pub(crate) async fn did_of(&self, http: &Http, handle: &str) -> Result<Option<String>> {
        if !handle::is_valid(handle) {
            return Ok(None);
        }
        let handle = handle::normalize(handle);
        if let Some(base) = &self.resolver_url {
            return self.ask_resolver(http, base, &handle).await;
        }
        let top = handle.rsplit('.').next().unwrap_or_default();
        if INNER_TLDS.contains(&top) && !http.allows_private() {
            return Ok(None);
        }
        // Both are asked at once. The DNS answer wins if there is one.
        let over_https = self.ask_well_known(http, &handle);
        tokio::pin!(over_https);
        let over_dns = self.ask_dns(&handle);
        tokio::pin!(over_dns);
        let mut https_says = None;
        let dns_says = loop {
            tokio::select! {
                biased;
                dns = &mut over_dns => break dns,
                https = &mut over_https, if https_says.is_none() => https_says = Some(https),
            }
        };
        if let Ok(Some(did)) = dns_says {
            return Ok(Some(did));
        }
        let https_says = match https_says {
            Some(says) => says,
            None => over_https.await,
        };
        match (https_says, dns_says) {
            (Ok(Some(did)), _) => Ok(Some(did)),
            (Ok(None), Ok(_)) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask_resolver(&self, http: &Http, base: &str, handle: &str) -> Result<Option<String>> {
        let url = format!("{base}/xrpc/com.atproto.identity.resolveHandle?handle={}", escape(handle));
        let answer = http.get(Trust::Operator, &url, "application/json", self.lookup_max, ANSWER_BYTES_MAX).await?;
        match answer.status {
            200 => {
                let json = answer.json()?;
                let did = json.get("did").and_then(|v| v.as_str()).filter(|did| did::is_valid(did));
                did.map(|did| Some(did.to_owned()))
                    .ok_or_else(|| Error::Failed(format!("the handle resolver gave no DID for {handle}")))
            }
            // The reference answers 400 for a handle it cannot find.
            400 | 404 | 410 => Ok(None),
            status => Err(Error::Failed(format!("the handle resolver answered {status}"))),
        }
    }

    async fn ask_dns(&self, handle: &str) -> Result<Option<String>> {
        let Some(dns) = &self.dns else { return Ok(None) };
        let name = format!("_atproto.{handle}.");
        let found = match tokio::time::timeout(self.lookup_max, dns.txt_lookup(name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if error.is_no_records_found() => return Ok(None),
            Ok(Err(error)) => return Err(Error::Failed(format!("DNS for {handle}: {error}"))),
            Err(_) => return Err(Error::Failed(format!("DNS for {handle}: no answer in time"))),
        };
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(did_of_texts(texts))
    }

    async fn ask_well_known(&self, http: &Http, handle: &str) -> Result<Option<String>> {
        let url = format!("https://{handle}/.well-known/atproto-did");
        match http.get(Trust::NetworkFollowing, &url, "text/plain", self.lookup_max, ANSWER_BYTES_MAX).await {
            Ok(answer) => Ok(did_of_body(&answer.body)),
            Err(Error::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Exactly one text must begin with `did=`.
fn did_of_texts(texts: impl Iterator<Item = Vec<u8>>) -> Option<String> {
    let mut found = texts.filter_map(|text| Some(std::str::from_utf8(&text).ok()?.strip_prefix("did=")?.to_owned()));
    let did = found.next()?;
    (found.next().is_none() && did::is_valid(&did)).then_some(did)
}

/// The first line counts, whatever the status was (ingest 4.1).
fn did_of_body(body: &[u8]) -> Option<String> {
    let first = body.split(|b| *b == b'\n').next()?;
    let did = std::str::from_utf8(first).ok()?.trim();
    did::is_valid(did).then(|| did.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_record_and_the_first_line_count() {
        let texts = |texts: &[&str]| did_of_texts(texts.iter().map(|t| t.as_bytes().to_vec()));
        assert_eq!(texts(&["v=spf1", "did=did:plc:abc"]).as_deref(), Some("did:plc:abc"));
        assert_eq!(texts(&["did=did:plc:abc", "did=did:plc:def"]), None);
        assert_eq!(texts(&["did=nonsense"]), None);
        assert_eq!(texts(&[]), None);
        assert_eq!(did_of_body(b" did:plc:abc \nmore").as_deref(), Some("did:plc:abc"));
        assert_eq!(did_of_body(b"<html>"), None);
    }
}
