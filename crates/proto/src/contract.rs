//! The wire contract as plain facts, and the comparison of two of them.
//!
//! One side is our own descriptor. The other is what a published npm package carries, printed as JSON by
//! `e2e/contract/print.mjs`. Two contracts are equal if no byte on the wire, no path of a call and no name in JSON
//! can tell them apart; comments, files and the order of declarations do not count.

use std::collections::BTreeMap;
use std::fmt;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde::Deserialize;

use crate::descriptors;

/// Fields that we keep and a newer contract has dropped, by message, number and name.
///
/// AppViews before 0.0.280 still send these three, and mean something by them.
pub const KEPT_FIELDS: [(&str, u32, &str); 3] = [
    ("bsky.GetNotificationSeenRequest", 2, "priority"),
    ("bsky.GetUnreadNotificationCountRequest", 2, "priority"),
    ("bsky.UpdateNotificationSeenRequest", 3, "priority"),
];

/// What is on the wire: methods, messages and enums of one protobuf package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    package: String,
    source: String,
    /// By `Service/Method`, with the package.
    methods: BTreeMap<String, Method>,
    messages: BTreeMap<String, Vec<Field>>,
    enums: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    name: String,
    input: String,
    output: String,
    /// `unary`, `server streaming`, `client streaming` or `bidirectional`.
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    no: u32,
    name: String,
    /// The name in JSON.
    json: String,
    /// A scalar by its protobuf name, else the full name; `map<key, value>` for a map.
    r#type: String,
    /// `singular`, `optional` (with presence), `repeated`, `map`, `required`, or `oneof` and its name.
    label: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    no: i32,
    name: String,
}

/// Why there is no contract to compare.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text was not made by `e2e/contract/print.mjs`, or by another version of it.
    #[error("not a contract as e2e/contract/print.mjs prints it: {0}")]
    Json(#[from] serde_json::Error),
    /// Something is declared twice.
    #[error("{0} is declared twice")]
    Twice(String),
    /// Our descriptor has no such package.
    #[error("there is no package {0} in our descriptor")]
    NoPackage(String),
}

/// One place in which our contract is not theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs, such as `field bsky.Record.cid`.
    pub item: String,
    /// In which way.
    pub kind: DifferenceKind,
}

/// In which way our contract is not theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// They have it, we do not.
    Missing,
    /// We have it, they do not.
    Extra,
    /// Both have it, with another property.
    Differs {
        /// Which property.
        property: &'static str,
        /// As it is with us.
        ours: String,
        /// As it is with them.
        theirs: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DifferenceKind::Missing => write!(f, "{}: missing here", self.item),
            DifferenceKind::Extra => write!(f, "{}: only here", self.item),
            DifferenceKind::Differs { property, ours, theirs } => {
                write!(f, "{}: {property} is `{ours}` here and `{theirs}` there", self.item)
            }
        }
    }
}

impl Contract {
    /// Reads what `e2e/contract/print.mjs` printed.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the text has another form, [`Error::Twice`] if a method, message number or name repeats.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Printed {
            package: String,
            source: String,
            methods: Vec<Method>,
            messages: BTreeMap<String, Vec<Field>>,
            enums: BTreeMap<String, Vec<Value>>,
        }
        let Printed { package, source, methods, messages, enums } = serde_json::from_str(text)?;
        let mut by_name = BTreeMap::new();
        for method in methods {
            if let Some(twice) = by_name.insert(method.name.clone(), method) {
                return Err(Error::Twice(format!("method {}", twice.name)));
            }
        }
        for (message, fields) in &messages {
            for (at, field) in fields.iter().enumerate() {
                if fields[..at].iter().any(|other| other.no == field.no || other.name == field.name) {
                    return Err(Error::Twice(format!("field {message}.{} or its number", field.name)));
                }
            }
        }
        Ok(Self { package, source, methods: by_name, messages, enums })
    }

    /// Our own contract: the part of [`crate::DESCRIPTOR`] that belongs to a package, `bsky` or `bsync`.
    ///
    /// # Errors
    ///
    /// [`Error::NoPackage`] for any other package.
    pub fn of_descriptor(package: &str) -> Result<Self, Error> {
        let pool = descriptors();
        let methods: BTreeMap<String, Method> = pool
            .services()
            .filter(|service| service.package_name() == package)
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| {
                let name = format!("{}/{}", method.parent_service().full_name(), method.name());
                let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server streaming",
                    (true, false) => "client streaming",
                    (true, true) => "bidirectional",
                };
                let input = method.input().full_name().to_owned();
                let output = method.output().full_name().to_owned();
                (name.clone(), Method { name, input, output, kind: kind.to_owned() })
            })
            .collect();
        if methods.is_empty() {
            return Err(Error::NoPackage(package.to_owned()));
        }
        let messages = pool
            .all_messages()
            .filter(|message| message.package_name() == package && !message.is_map_entry())
            .map(|message| (message.full_name().to_owned(), message.fields().map(|field| of_field(&field)).collect()))
            .collect();
        let enums = pool
            .all_enums()
            .filter(|it| it.package_name() == package)
            .map(|it| (it.full_name().to_owned(), values(&it)))
            .collect();
        Ok(Self { package: package.to_owned(), source: "our descriptor".to_owned(), methods, messages, enums })
    }

    /// The protobuf package.
    #[must_use]
    pub fn package(&self) -> &str {
        &self.package
    }

    /// Where these facts come from, such as `@atproto/bsky@0.0.280`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn of_field(field: &FieldDescriptor) -> Field {
    let label = if field.is_map() {
        "map".to_owned()
    } else if field.is_list() {
        "repeated".to_owned()
    } else if field.is_required() {
        "required".to_owned()
    } else {
        // The compiler wraps a field with explicit presence in a oneof of its own, which is not a oneof to anybody.
        match field.containing_oneof() {
            Some(oneof) if oneof.is_synthetic() => "optional".to_owned(),
            Some(oneof) => format!("oneof {}", oneof.name()),
            None => "singular".to_owned(),
        }
    };
    Field {
        no: field.number(),
        name: field.name().to_owned(),
        json: field.json_name().to_owned(),
        r#type: type_of(&field.kind()),
        label,
    }
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) if message.is_map_entry() => map_type(message),
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(it) => it.full_name().to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        Kind::Sint32 => "sint32".to_owned(),
        Kind::Sint64 => "sint64".to_owned(),
        Kind::Fixed32 => "fixed32".to_owned(),
        Kind::Fixed64 => "fixed64".to_owned(),
        Kind::Sfixed32 => "sfixed32".to_owned(),
        Kind::Sfixed64 => "sfixed64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
    }
}

fn map_type(entry: &MessageDescriptor) -> String {
    let key = type_of(&entry.map_entry_key_field().kind());
    let value = type_of(&entry.map_entry_value_field().kind());
    format!("map<{key}, {value}>")
}

fn values(it: &EnumDescriptor) -> Vec<Value> {
    it.values().map(|value| Value { no: value.number(), name: value.name().to_owned() }).collect()
}

/// Every difference that is not allowed. Allowed are [`KEPT_FIELDS`], where they have no field with that number or name.
#[must_use]
pub fn differences(ours: &Contract, theirs: &Contract) -> Vec<Difference> {
    all_differences(ours, theirs).into_iter().filter(|difference| !is_allowed(difference)).collect()
}

fn is_allowed(difference: &Difference) -> bool {
    difference.kind == DifferenceKind::Extra
        && KEPT_FIELDS.iter().any(|(message, no, name)| difference.item == field_item(message, name, *no))
}

fn field_item(message: &str, name: &str, no: u32) -> String {
    format!("field {message}.{name} = {no}")
}

fn all_differences(ours: &Contract, theirs: &Contract) -> Vec<Difference> {
    let mut out = Differences(Vec::new());
    out.property("package", "name", &ours.package, &theirs.package);
    for (name, ours, theirs) in out.pairs("method", &ours.methods, &theirs.methods) {
        let item = format!("method {name}");
        out.property(&item, "request", &ours.input, &theirs.input);
        out.property(&item, "response", &ours.output, &theirs.output);
        out.property(&item, "kind", &ours.kind, &theirs.kind);
    }
    for (name, ours, theirs) in out.pairs("message", &ours.messages, &theirs.messages) {
        out.fields(name, ours, theirs);
    }
    for (name, ours, theirs) in out.pairs("enum", &ours.enums, &theirs.enums) {
        out.values(name, ours, theirs);
    }
    out.0
}

/// Differences found so far.
struct Differences(Vec<Difference>);

impl Differences {
    fn put(&mut self, item: String, kind: DifferenceKind) {
        self.0.push(Difference { item, kind });
    }

    fn property(&mut self, item: &str, property: &'static str, ours: &str, theirs: &str) {
        if ours != theirs {
            let (ours, theirs) = (ours.to_owned(), theirs.to_owned());
            self.put(item.to_owned(), DifferenceKind::Differs { property, ours, theirs });
        }
    }

    /// What both have, by name; what only one has becomes a difference.
    fn pairs<'a, T>(
        &mut self,
        what: &str,
        ours: &'a BTreeMap<String, T>,
        theirs: &'a BTreeMap<String, T>,
    ) -> Vec<(&'a str, &'a T, &'a T)> {
        for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
            self.put(format!("{what} {name}"), DifferenceKind::Extra);
        }
        let mut both = Vec::new();
        for (name, theirs) in theirs {
            match ours.get(name) {
                Some(ours) => both.push((name.as_str(), ours, theirs)),
                None => self.put(format!("{what} {name}"), DifferenceKind::Missing),
            }
        }
        both
    }

    /// Fields meet by name; of those left over, by number, so that a renamed field is told as one.
    fn fields(&mut self, message: &str, ours: &[Field], theirs: &[Field]) {
        let named = |fields: &[Field], name: &str| fields.iter().any(|field| field.name == name);
        let mut met = Vec::new();
        for their in theirs {
            let item = field_item(message, &their.name, their.no);
            let our = ours
                .iter()
                .find(|our| our.name == their.name)
                .or_else(|| ours.iter().find(|our| our.no == their.no && !named(theirs, &our.name)));
            let Some(our) = our else {
                self.put(item, DifferenceKind::Missing);
                continue;
            };
            met.push(our.no);
            self.property(&item, "number", &our.no.to_string(), &their.no.to_string());
            self.property(&item, "name", &our.name, &their.name);
            self.property(&item, "name in JSON", &our.json, &their.json);
            self.property(&item, "type", &our.r#type, &their.r#type);
            self.property(&item, "label", &our.label, &their.label);
        }
        for our in ours.iter().filter(|our| !met.contains(&our.no)) {
            self.put(field_item(message, &our.name, our.no), DifferenceKind::Extra);
        }
    }

    /// Values meet by number, which is what the wire carries.
    fn values(&mut self, name: &str, ours: &[Value], theirs: &[Value]) {
        let item = |value: &Value| format!("value {name}.{} = {}", value.name, value.no);
        for their in theirs {
            match ours.iter().find(|our| our.no == their.no) {
                Some(our) => self.property(&item(their), "name", &our.name, &their.name),
                None => self.put(item(their), DifferenceKind::Missing),
            }
        }
        for our in ours.iter().filter(|our| theirs.iter().all(|their| their.no != our.no)) {
            self.put(item(our), DifferenceKind::Extra);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares our contract with a copy of itself that `seed` has spoiled, and says what was found.
    fn found(seed: impl FnOnce(&mut Contract)) -> Vec<String> {
        let ours = Contract::of_descriptor("bsky").expect("we have it");
        let mut theirs = ours.clone();
        seed(&mut theirs);
        differences(&ours, &theirs).iter().map(ToString::to_string).collect()
    }

    fn field<'a>(contract: &'a mut Contract, message: &str, name: &str) -> &'a mut Field {
        let fields = contract.messages.get_mut(message).expect("message");
        fields.iter_mut().find(|field| field.name == name).expect("field")
    }

    #[test]
    fn a_contract_equals_itself() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_renamed_field_is_named() {
        let found = found(|it| field(it, "bsky.Record", "cid").name = "digest".to_owned());
        assert_eq!(found, ["field bsky.Record.digest = 2: name is `cid` here and `digest` there"]);
    }

    #[test]
    fn a_changed_number_is_named() {
        let found = found(|it| field(it, "bsky.Record", "cid").no = 12);
        assert_eq!(found, ["field bsky.Record.cid = 12: number is `2` here and `12` there"]);
    }

    #[test]
    fn two_swapped_numbers_are_both_named() {
        let found = found(|it| {
            field(it, "bsky.RecordRef", "uri").no = 2;
            field(it, "bsky.RecordRef", "cid").no = 1;
        });
        assert_eq!(
            found,
            [
                "field bsky.RecordRef.uri = 2: number is `1` here and `2` there",
                "field bsky.RecordRef.cid = 1: number is `2` here and `1` there",
            ]
        );
    }

    #[test]
    fn a_changed_type_is_named() {
        let found = found(|it| field(it, "bsky.PageInfo", "hits_total").r#type = "int32".to_owned());
        assert_eq!(found, ["field bsky.PageInfo.hits_total = 2: type is `int64` here and `int32` there"]);
    }

    #[test]
    fn a_wrong_label_is_named() {
        let found = found(|it| field(it, "bsky.GetPostRecordsRequest", "viewer_did").label = "singular".to_owned());
        assert_eq!(
            found,
            ["field bsky.GetPostRecordsRequest.viewer_did = 3: label is `optional` here and `singular` there"]
        );
    }

    #[test]
    fn another_name_in_json_is_named() {
        let found = found(|it| field(it, "bsky.LikeInfo", "subject").json = "subjectUri".to_owned());
        assert_eq!(found, ["field bsky.LikeInfo.subject = 2: name in JSON is `subject` here and `subjectUri` there"]);
    }

    #[test]
    fn missing_and_extra_fields_are_named() {
        let found = found(|it| {
            let fields = it.messages.get_mut("bsky.LikeInfo").expect("message");
            fields[1].no = 9;
            fields[1].name = "liked".to_owned();
        });
        assert_eq!(
            found,
            ["field bsky.LikeInfo.liked = 9: missing here", "field bsky.LikeInfo.subject = 2: only here"]
        );
    }

    #[test]
    fn missing_extra_and_changed_methods_are_named() {
        let found = found(|it| {
            let mut moved = it.methods.remove("bsky.Service/Ping").expect("method");
            moved.name = "bsky.Service/Pong".to_owned();
            it.methods.insert(moved.name.clone(), moved);
            let rev = it.methods.get_mut("bsky.Service/GetLatestRev").expect("method");
            rev.kind = "server streaming".to_owned();
            rev.output = "bsky.PingResponse".to_owned();
        });
        assert_eq!(
            found,
            [
                "method bsky.Service/Ping: only here",
                "method bsky.Service/Pong: missing here",
                "method bsky.Service/GetLatestRev: response is `bsky.GetLatestRevResponse` here and `bsky.PingResponse` there",
                "method bsky.Service/GetLatestRev: kind is `unary` here and `server streaming` there",
            ]
        );
    }

    #[test]
    fn missing_messages_and_enum_values_are_named() {
        let found = found(|it| {
            it.messages.insert("bsky.New".to_owned(), Vec::new());
            it.messages.remove("bsky.OpThread");
            let values = it.enums.get_mut("bsky.FeedType").expect("enum");
            values[1].name = "FEED_TYPE_ALL".to_owned();
            values[4].no = 5;
        });
        assert_eq!(
            found,
            [
                "message bsky.OpThread: only here",
                "message bsky.New: missing here",
                "value bsky.FeedType.FEED_TYPE_ALL = 1: name is `FEED_TYPE_POSTS_AND_AUTHOR_THREADS` here and `FEED_TYPE_ALL` there",
                "value bsky.FeedType.FEED_TYPE_POSTS_WITH_VIDEO = 5: missing here",
                "value bsky.FeedType.FEED_TYPE_POSTS_WITH_VIDEO = 4: only here",
            ]
        );
    }

    #[test]
    fn a_kept_field_may_be_absent_there_but_not_be_something_else() {
        let message = "bsky.GetNotificationSeenRequest";
        let absent = found(|it| it.messages.get_mut(message).expect("message").truncate(1));
        assert_eq!(absent, Vec::<String>::new());

        let reused = found(|it| {
            let field = field(it, message, "priority");
            field.name = "limit".to_owned();
            field.r#type = "int32".to_owned();
        });
        assert_eq!(
            reused,
            [
                "field bsky.GetNotificationSeenRequest.limit = 2: name is `priority` here and `limit` there",
                "field bsky.GetNotificationSeenRequest.limit = 2: type is `bool` here and `int32` there",
            ]
        );

        let other = found(|it| it.messages.get_mut("bsky.GetNotificationsRequest").expect("message").truncate(3));
        assert_eq!(other, ["field bsky.GetNotificationsRequest.priority = 4: only here"]);
    }

    #[test]
    fn the_kept_fields_are_all_that_differs_from_the_newest_contract() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/contract/bsky-0.0.280.json");
        let theirs = Contract::from_json(&std::fs::read_to_string(path).expect("fixture")).expect("contract");
        let ours = Contract::of_descriptor("bsky").expect("we have it");
        let extra: Vec<String> = all_differences(&ours, &theirs).iter().map(ToString::to_string).collect();
        let kept: Vec<String> = KEPT_FIELDS
            .iter()
            .map(|(message, no, name)| format!("{}: only here", field_item(message, name, *no)))
            .collect();
        assert_eq!(extra, kept);
    }

    #[test]
    fn a_text_of_another_form_is_refused() {
        assert!(matches!(Contract::from_json("{}"), Err(Error::Json(_))));
        let method = r#"{"name":"a.S/M","input":"a.I","output":"a.O","kind":"unary"}"#;
        let twice =
            format!(r#"{{"package":"a","source":"b","methods":[{method},{method}],"messages":{{}},"enums":{{}}}}"#);
        assert!(matches!(Contract::from_json(&twice), Err(Error::Twice(_))));
        assert!(matches!(Contract::of_descriptor("other"), Err(Error::NoPackage(_))));
    }
}
