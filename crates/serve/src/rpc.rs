//! What a call is made of: its row in the table, its class, its request decoded, and how it is answered.
//!
//! The table itself is in [`crate::rpcs`]. Nothing here knows HTTP or a single call of the contract.

use std::{collections::HashMap, future::Future, marker::PhantomData, mem, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use gp_index::Cx;
use prost::{DecodeError, Message};

use crate::Price;

/// What a call does, which decides its deadline and how it is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Looks up records or rows by their keys.
    Point = 0,
    /// Reads a page of one partition.
    Scan = 1,
    /// Relates one account to many, or pairs with each other.
    Pairs = 2,
    /// Reads counts.
    Count = 3,
    /// Puts an answer together from many partitions.
    Compose = 4,
    /// Asks the search index.
    Search = 5,
    /// Changes something.
    Write = 6,
    /// Asks about the process itself; never queued.
    Control = 7,
}

impl Class {
    /// All classes, by number.
    pub const ALL: [Self; 8] =
        [Self::Point, Self::Scan, Self::Pairs, Self::Count, Self::Compose, Self::Search, Self::Write, Self::Control];

    /// The name; a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Scan => "scan",
            Self::Pairs => "pairs",
            Self::Count => "count",
            Self::Compose => "compose",
            Self::Search => "search",
            Self::Write => "write",
            Self::Control => "control",
        }
    }

    /// How long a call may take if the caller does not say. The AppView never says.
    pub fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Control => 5,
            Self::Point | Self::Scan | Self::Pairs | Self::Count | Self::Search => 10,
            Self::Compose | Self::Write => 20,
        })
    }

    /// What a call should take at most; one that takes longer is worth a look.
    pub(crate) fn slow(self) -> Duration {
        Duration::from_millis(match self {
            Self::Control | Self::Point | Self::Count => 25,
            Self::Scan | Self::Pairs | Self::Write => 50,
            Self::Compose | Self::Search => 100,
        })
    }

    /// Whether a request of this class may carry a long list, and so may be large.
    pub(crate) fn takes_lists(self) -> bool {
        matches!(self, Self::Point | Self::Pairs | Self::Count)
    }
}

/// An answer on its way: the encoded response message, or why there is none.
pub type Running<'a> = Pin<Box<dyn Future<Output = gp_index::Result<Bytes>> + Send + 'a>>;

/// An encoded answer of so many bytes is paid for before it is made.
const LARGE_ANSWER_BYTES: usize = 64 << 10;

/// A response message of the contract.
pub trait Response: Message {}

/// What the function behind a row may return: the response message, or its encoding as `Bytes`.
///
/// A function that has the encoded parts of an answer in a cache puts them together itself and returns `Bytes`; the
/// row in the table stays the same.
pub trait Answer<R: Response> {
    /// The encoded response message. Refused where there is no room for it: what it is made of is still in memory.
    fn encode(self) -> gp_index::Result<Bytes>;
}

impl<R: Response> Answer<R> for R {
    fn encode(self) -> gp_index::Result<Bytes> {
        encode(&self)
    }
}

impl Answer<gp_proto::GetPostRecordsResponse> for gp_index::posts::PostRecords {
    fn encode(self) -> gp_index::Result<Bytes> {
        encode(&self)
    }
}

fn encode(answer: &impl Message) -> gp_index::Result<Bytes> {
    let bytes = answer.encoded_len();
    if bytes >= LARGE_ANSWER_BYTES {
        gp_store::pay(bytes)?;
    }
    // `encode_to_vec` would count the bytes again, of every record within.
    let mut encoded = Vec::with_capacity(bytes);
    answer.encode_raw(&mut encoded);
    Ok(encoded.into())
}

impl<R: Response> Answer<R> for Bytes {
    fn encode(self) -> gp_index::Result<Bytes> {
        Ok(self)
    }
}

/// One row of the table. Implemented by `rpcs!` for a type named as the call.
pub trait Row: 'static {
    /// The request message.
    type Request: Message + Default + Clone + 'static;
    /// The response message.
    type Response: Response;
    /// The name, as in the path of a call.
    const NAME: &'static str;
    /// What it does.
    const CLASS: Class;
    /// Whether there is a function behind it.
    const BUILT: bool;
    /// How long it may take, if not as its class says.
    const DEADLINE_MS: Option<u64>;
    /// Whether its request names its keys one by one.
    const LISTS: bool;

    /// What the request asks for.
    fn price(request: &Self::Request) -> Price;

    /// Cuts a request with more than `keys` keys into several with that many each, if the answer to all of them is the
    /// answers to each of them, one after the other.
    fn slices(request: Self::Request, keys: usize) -> Vec<Self::Request>;

    /// Answers.
    fn run(cx: &Cx, request: Self::Request) -> Running<'_>;
}

/// A decoded request, whichever call it is for.
pub trait Asked: Send {
    /// What it asks for.
    fn price(&self) -> Price;
    /// Itself, or several requests whose answers one after the other are its answer; see [`Row::slices`].
    fn slices(self: Box<Self>, keys: usize) -> Vec<Box<dyn Asked>>;
    /// The request as it is on the wire.
    fn message(&self) -> Bytes;
    /// Answers.
    fn run<'a>(self: Box<Self>, cx: &'a Cx) -> Running<'a>;
}

struct Ask<R: Row>(R::Request, PhantomData<fn() -> R>);

impl<R: Row> Asked for Ask<R> {
    fn price(&self) -> Price {
        R::price(&self.0)
    }

    fn slices(self: Box<Self>, keys: usize) -> Vec<Box<dyn Asked>> {
        R::slices(self.0, keys).into_iter().map(|part| Box::new(Self(part, PhantomData)) as Box<dyn Asked>).collect()
    }

    fn message(&self) -> Bytes {
        self.0.encode_to_vec().into()
    }

    fn run<'a>(self: Box<Self>, cx: &'a Cx) -> Running<'a> {
        R::run(cx, self.0)
    }
}

/// A function that answers in place of the one in the table.
pub type Instead = Arc<dyn for<'a> Fn(&'a Cx, Box<dyn Asked>) -> Running<'a> + Send + Sync>;

/// A call of the contract, ready to be made.
#[derive(Clone)]
pub struct Rpc {
    /// The name, as in the path of a call.
    pub name: &'static str,
    /// What it does.
    pub class: Class,
    /// Whether there is a function behind it.
    pub built: bool,
    /// Whether its request names its keys one by one.
    pub lists: bool,
    /// How long it may take if the caller does not say.
    pub deadline: Duration,
    /// Its position in the table.
    pub(crate) index: usize,
    pub(crate) decode: fn(Bytes) -> Result<Box<dyn Asked>, DecodeError>,
    pub(crate) instead: Option<Instead>,
}

impl Rpc {
    pub(crate) fn of<R: Row>() -> Self {
        Self {
            name: R::NAME,
            class: R::CLASS,
            built: R::BUILT,
            lists: R::LISTS,
            deadline: R::DEADLINE_MS.map_or_else(|| R::CLASS.deadline(), Duration::from_millis),
            index: 0,
            decode: |message| {
                let asked: Box<dyn Asked> = Box::new(Ask::<R>(R::Request::decode(message)?, PhantomData));
                Ok(asked)
            },
            instead: None,
        }
    }

    pub(crate) fn run<'a>(&self, asked: Box<dyn Asked>, cx: &'a Cx) -> Running<'a> {
        match &self.instead {
            None => asked.run(cx),
            Some(instead) => instead(cx, asked),
        }
    }
}

/// All calls of the contract, found by name.
#[derive(Clone)]
pub struct Rpcs {
    list: Vec<Rpc>,
    by_name: HashMap<&'static str, usize>,
}

impl Rpcs {
    pub(crate) fn of(mut list: Vec<Rpc>) -> Self {
        for (index, rpc) in list.iter_mut().enumerate() {
            rpc.index = index;
        }
        let by_name = list.iter().map(|rpc| (rpc.name, rpc.index)).collect();
        Self { list, by_name }
    }

    /// All calls, in the order of the table.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rpc> {
        self.list.iter()
    }

    /// A call by its name.
    pub fn get(&self, name: &str) -> Option<&Rpc> {
        self.by_name.get(name).map(|index| &self.list[*index])
    }

    /// A call by the path of a request, `/bsky.Service/` and its name.
    pub(crate) fn at_path(&self, path: &str) -> Option<&Rpc> {
        self.get(path.strip_prefix('/')?.strip_prefix(gp_proto::SERVICE)?.strip_prefix('/')?)
    }

    /// Answers one call by another function than the table's: for tests, and for measuring the way of a call alone.
    ///
    /// The request is still decoded, priced, admitted and cut into slices as the table says. An unknown name changes
    /// nothing.
    #[must_use]
    pub fn instead(
        mut self,
        name: &str,
        answer: impl for<'a> Fn(&'a Cx, Box<dyn Asked>) -> Running<'a> + Send + Sync + 'static,
    ) -> Self {
        if let Some(index) = self.by_name.get(name) {
            let rpc = &mut self.list[*index];
            rpc.instead = Some(Arc::new(answer));
            rpc.built = true;
        }
        self
    }
}

/// Cuts a list into parts of at most `keys` elements and puts each into its own request.
pub(crate) fn cut<R, K>(mut request: R, keys: usize, list: impl Fn(&mut R) -> &mut Vec<K>) -> Vec<R>
where
    R: Clone,
{
    if list(&mut request).len() <= keys {
        return vec![request];
    }
    let all = mem::take(list(&mut request));
    let mut parts = Vec::with_capacity(all.len().div_ceil(keys.max(1)));
    let mut rest = all.into_iter();
    loop {
        let part: Vec<K> = rest.by_ref().take(keys.max(1)).collect();
        if part.is_empty() {
            return parts;
        }
        // What is cloned is everything but the list.
        let mut of_part = request.clone();
        *list(&mut of_part) = part;
        parts.push(of_part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stand_at_their_number() {
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
        }
    }

    #[test]
    fn a_list_is_cut_in_order_and_the_rest_of_the_request_goes_along() {
        let request = gp_proto::GetRelationshipsRequest {
            actor_did: "did:plc:a".into(),
            target_dids: (0..10).map(|n| n.to_string()).collect(),
        };
        let parts = cut(request.clone(), 4, |it| &mut it.target_dids);
        let lists: Vec<_> = parts.iter().map(|it| it.target_dids.join("")).collect();
        assert_eq!(lists, ["0123", "4567", "89"]);
        assert!(parts.iter().all(|it| it.actor_did == "did:plc:a"));
        assert_eq!(cut(request.clone(), 10, |it| &mut it.target_dids), [request]);
    }
}
