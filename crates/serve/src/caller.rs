//! Who calls: the name a caller gives itself, and the token it may have to show.

use gp_store::Behalf;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use crate::{Code, Status};

/// The header by which a caller names itself; the AppView sends `appview`.
static CALLER: HeaderName = HeaderName::from_static("x-atlantis-caller");

/// Names that may be configured, so that metrics stay small.
pub const CALLERS_MAX: usize = 32;

/// A caller, by its position among the known names. Names that are not configured are all one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerId(u8);

impl CallerId {
    /// A caller that does not name itself.
    pub const UNKNOWN: Self = Self(0);
    /// A caller with a name that is not configured.
    pub const OTHER: Self = Self(1);

    /// The position, for arrays as long as [`Callers::names`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    #[cfg(test)]
    pub(crate) fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap())
    }
}

/// The closed set of callers.
#[derive(Debug)]
pub struct Callers {
    /// `unknown`, `other`, and the configured names.
    names: Vec<String>,
    /// For each of them: whether it comes after those that cannot wait.
    background: Vec<bool>,
}

impl Callers {
    /// At most [`CALLERS_MAX`] names; more are `other`.
    pub(crate) fn new(configured: &[String], background: &[String]) -> Self {
        let mut names = vec!["unknown".to_owned(), "other".to_owned()];
        for name in configured.iter().take(CALLERS_MAX) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let background = names.iter().map(|name| background.contains(name)).collect();
        Self { names, background }
    }

    /// For each caller, by its position: whether it comes after those that cannot wait.
    pub(crate) fn background(&self) -> &[bool] {
        &self.background
    }

    /// On whose behalf the reads of a call are.
    pub(crate) fn behalf(&self, caller: CallerId, bulk: bool) -> Behalf {
        // 0 is the plane itself.
        Behalf { caller: caller.0 + 1, bulk, can_wait: self.background[caller.index()] }
    }

    /// All names, by their position.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Who sent these headers.
    pub(crate) fn of(&self, headers: &HeaderMap) -> CallerId {
        let Some(name) = headers.get(&CALLER) else { return CallerId::UNKNOWN };
        let known = self.names[2..].iter().position(|known| known.as_bytes() == name.as_bytes());
        known.and_then(|at| u8::try_from(at + 2).ok()).map_or(CallerId::OTHER, CallerId)
    }
}

/// The tokens that callers may show.
///
/// The AppView shows none and the service that carries private state shows one, so a missing token is allowed unless
/// tokens are required, and a wrong one never is. Without any configured token there is nothing to be wrong about:
/// tokens are not looked at.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: Vec<String>,
    required: bool,
}

impl Tokens {
    pub(crate) fn new(known: &[String], required: bool) -> Self {
        Self { known: known.to_vec(), required }
    }

    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(shown) = headers.get(AUTHORIZATION) else {
            return if self.required {
                Err(Status::new(Code::Unauthenticated, "a token is required: send `authorization: Bearer <token>`"))
            } else {
                Ok(())
            };
        };
        if self.known.is_empty() && !self.required {
            return Ok(());
        }
        match bearer(shown.as_bytes()) {
            // Every token is compared, so that the time does not tell which one was close.
            Some(shown) if self.known.iter().fold(false, |found, known| found | same(known.as_bytes(), shown)) => {
                Ok(())
            }
            _ => Err(Status::new(Code::Unauthenticated, "this token is not known here")),
        }
    }
}

/// The token in an `authorization` header.
pub(crate) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares two secrets in a time that depends on their lengths only.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn callers_are_a_closed_set() {
        let callers = Callers::new(&["appview".into(), "feeds".into(), "appview".into()], &["feeds".into()]);
        assert_eq!(callers.names(), ["unknown", "other", "appview", "feeds"]);
        assert_eq!(callers.background(), [false, false, false, true]);
        let of = |headers| callers.names()[callers.of(&headers).index()].as_str();
        assert_eq!(of(HeaderMap::new()), "unknown");
        assert_eq!(of(headers("x-atlantis-caller", "feeds")), "feeds");
        assert_eq!(of(headers("x-atlantis-caller", "unknown")), "other");
        assert_eq!(of(headers("x-atlantis-caller", "")), "other");
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(Callers::new(&many, &[]).names().len(), CALLERS_MAX + 2);
    }

    #[test]
    fn a_wrong_token_is_refused_and_a_missing_one_only_where_it_is_required() {
        let known = ["one".to_owned(), "two".to_owned()];
        let allows =
            |known: &[String], required, headers: &HeaderMap| Tokens::new(known, required).check(headers).is_ok();
        for required in [false, true] {
            assert!(allows(&known, required, &headers("authorization", "Bearer two")));
            assert!(allows(&known, required, &headers("authorization", "bearer one ")));
            assert!(!allows(&known, required, &headers("authorization", "Bearer tw")));
            assert!(!allows(&known, required, &headers("authorization", "Bearer ")));
            assert!(!allows(&known, required, &headers("authorization", "Basic two")));
            assert_eq!(allows(&known, required, &HeaderMap::new()), !required);
        }
        assert!(allows(&[], false, &headers("authorization", "Bearer whatever")));
        assert!(!allows(&[], true, &headers("authorization", "Bearer whatever")));
    }
}
