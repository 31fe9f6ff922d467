//! Things that a consumer must cope with, one method each.
//!
//! Every method emits its events at once and returns what an ideal consumer ends with. Most let an ordinary post by
//! the same account follow, so that the outcome does not depend on whether anything else happens: a consumer that
//! refused a worthless event must take the post as if nothing had been, and one that missed something must notice by
//! the post at the latest and fetch the repository.
//!
//! Two kinds of damage differ in what the host holds. An event *forged* on the way tells of a commit that the host
//! never made: its records must not show. An event *damaged* on the way tells of a commit that the host did make: its
//! records must show once the repository was fetched.

use bytes::Bytes;
use gp_atproto::{
    Cid, Tid, aturi,
    car::CarWriter,
    crypto::SigningKey,
    datetime,
    frame::{IdentityMessage, Message},
    json, lexicon,
    verify::check_commit,
};

use crate::{
    Error,
    dice::{Dice, Purpose},
    history::{Stage, watch_writes},
    log::Stored,
    network::{Network, append, clock_us},
    records::{self, Block, POST, PROFILE, SELF},
    repo::Made,
    script::{Rkey, Write},
};

const DAY_US: u64 = 86_400_000_000;

/// What happened, and what an ideal consumer ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// The account it happened to.
    pub did: String,
    /// The newest sequence number once everything was emitted.
    pub seq: i64,
    /// Records that must show, with this CID.
    pub present: Vec<(String, Cid)>,
    /// URIs under which nothing must show.
    pub absent: Vec<String>,
    /// Handles that accounts must have; `None` is an account whose handle does not hold.
    pub handles: Vec<(String, Option<String>)>,
    /// Whether the consumer can only get there by fetching the repository.
    pub needs_resync: bool,
    /// Events that must be refused or passed over.
    pub refused_events: u64,
}

/// The work of one method: the network's parts, and what has been emitted so far.
struct Scene<'n> {
    network: &'n Network,
    stage: parking_lot::MutexGuard<'n, Stage>,
    actor: u32,
    happened: Happened,
}

impl Network {
    // ------------------------------------------------------------------------------------------ honest events

    /// An ordinary account in good standing, for something to happen to. `number` chooses among them.
    pub fn victim(&self, number: u64) -> String {
        let mut stage = self.stage.lock();
        let actor = stage.script.victim(&mut Dice::new(self.seed ^ number.wrapping_mul(0x9e37_79b9), Purpose::Fault));
        self.host.person(actor).did.clone()
    }

    /// An account writes a record, given as lex-JSON with its `$type`; returns where it stands.
    ///
    /// The key is `self` for collections that have one record, otherwise new. The record must be valid.
    pub fn create(&self, did: &str, record: &serde_json::Value) -> Result<Happened, Error> {
        let (collection, block) = encode(record)?;
        self.scene(did, |scene| {
            let rkey = if is_single(collection) { Rkey::Word(SELF) } else { Rkey::Tid(scene.tid()) };
            scene.write(vec![Write::create(collection, rkey, block)]);
            Ok(())
        })
    }

    /// An account writes a record under a key of its choice, as gates need, which lie beside their post. Nothing may
    /// stand there yet.
    pub fn create_at(&self, uri: &str, record: &serde_json::Value) -> Result<Happened, Error> {
        let (did, collection, rkey) = parse(uri)?;
        let (kind, block) = encode(record)?;
        if kind != collection {
            return Err(Error::Record("its $type is not the collection of the URI"));
        }
        self.scene(did, |scene| {
            if scene.must_hold(collection, rkey).is_ok() {
                return Err(Error::Record("there is one at this URI already"));
            }
            scene.write(vec![Write::create(collection, rkey, block)]);
            Ok(())
        })
    }

    /// An account replaces a record of its own.
    pub fn update(&self, uri: &str, record: &serde_json::Value) -> Result<Happened, Error> {
        let (did, collection, rkey) = parse(uri)?;
        let (kind, block) = encode(record)?;
        if kind != collection {
            return Err(Error::Record("its $type is not the collection of the URI"));
        }
        self.scene(did, |scene| {
            scene.must_hold(collection, rkey)?;
            scene.write(vec![Write::update(collection, rkey, block)]);
            Ok(())
        })
    }

    /// An account deletes a record of its own.
    pub fn delete(&self, uri: &str) -> Result<Happened, Error> {
        let (did, collection, rkey) = parse(uri)?;
        self.scene(did, |scene| {
            scene.must_hold(collection, rkey)?;
            scene.write(vec![Write::delete(collection, rkey)]);
            Ok(())
        })
    }

    /// An account writes a post.
    pub fn post(&self, did: &str, text: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.post(text);
            scene.write(vec![write]);
            Ok(())
        })
    }

    // ------------------------------------------------------------------------------------------ forged events

    /// A commit signed with somebody else's key, then an honest post.
    pub fn wrong_signature(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let key = scene.network.host.person(scene.actor).later_key(u32::MAX - 1);
            let made = scene.forge("signed with another key", |rev| rev, Some(&key));
            scene.emit_forged(&made);
            scene.follow_up();
            Ok(())
        })
    }

    /// A commit whose revision lies a day ahead, signed with the right key, then an honest post. Who believes it
    /// refuses everything the account does for a day.
    pub fn rev_from_the_future(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            // Ahead of the network's clock and of the true one: consumers may go by either.
            let now_us = u64::try_from(clock_us()).unwrap_or_default();
            let made = scene.forge(
                "from tomorrow",
                |rev| Tid::from_parts(rev.micros().max(now_us) + DAY_US, rev.clock_id()),
                None,
            );
            scene.emit_forged(&made);
            scene.follow_up();
            Ok(())
        })
    }

    /// A commit with a record of `bytes` bytes, then an honest post. Above two million the event is over the limit.
    pub fn oversized_frame(&self, did: &str, bytes: usize) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let created_at = scene.created_at();
            let rkey = Rkey::Tid(scene.tid());
            let write = Write::create(POST, rkey, records::post_with_ballast("very large", bytes, &created_at));
            let made = scene.pretend(vec![write], |rev| rev, None);
            scene.emit_forged(&made);
            scene.follow_up();
            Ok(())
        })
    }

    /// Bytes that are no frame at all.
    pub fn garbage_frame(&self) -> i64 {
        self.raw_frame(Bytes::from_static(b"\xa1\x62op\x01\xff these are not the bytes of a body"))
    }

    /// A message of a type that nobody knows yet.
    pub fn unknown_message(&self) -> i64 {
        self.raw_frame(Message::Unknown("#weather").encode().into())
    }

    /// Sends these bytes to everybody, at a sequence number of their own that the frame need not mention.
    pub fn raw_frame(&self, frame: Bytes) -> i64 {
        let mut stage = self.stage.lock();
        let seq = stage.script.reserve_seq();
        self.served.events.append([(seq, crate::log::NOBODY, Stored::Memory(frame))]);
        seq
    }

    // ------------------------------------------------------------------------------------------ damaged events

    /// A commit whose CAR ends in the middle of a block, then an honest post.
    pub fn truncated_car(&self, did: &str) -> Result<Happened, Error> {
        self.damage(did, |made| {
            let mut car = made.car();
            // Where half of it is, a block may happen to end: then it is a whole CAR that lacks records.
            car.pop();
            car
        })
    }

    /// A commit without any blocks, then an honest post.
    pub fn empty_car(&self, did: &str) -> Result<Happened, Error> {
        self.damage(did, |_| Vec::new())
    }

    /// A commit whose record was changed without changing its CID, then an honest post.
    pub fn forged_record(&self, did: &str) -> Result<Happened, Error> {
        self.damage(did, |made| {
            let mut car = CarWriter::new(&[made.state.commit]);
            car.block(made.state.commit.as_ref(), &made.commit_block);
            for (cid, node) in &made.nodes {
                car.block(cid.as_ref(), node);
            }
            for (cid, record) in &made.records {
                let mut forged = record.to_vec();
                let at = forged.windows(4).position(|bytes| bytes == b"post").unwrap_or(0);
                forged[at..at + 4].copy_from_slice(b"tsop");
                car.block(cid.as_ref(), &forged);
            }
            car.finish()
        })
    }

    /// A commit from whose proof a needed tree node is missing, then an honest post.
    pub fn missing_proof_node(&self, did: &str) -> Result<Happened, Error> {
        self.damage_made(did, |made, is_sound| {
            // The last node whose absence is noticed: others may be there for neighbours that did not matter.
            for at in (0..made.nodes.len()).rev() {
                let node = made.nodes.remove(at);
                if !is_sound(made) {
                    return;
                }
                made.nodes.insert(at, node);
            }
        })
    }

    /// An update that names another record as the one it replaces, then an honest post.
    pub fn wrong_prev(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.profile();
            scene.write(vec![write]);
            let write = scene.profile();
            let mut made = scene.commit_silently(vec![write]);
            made.ops[0].prev = Some(Cid::for_dag_cbor(b"never stood here"));
            scene.emit_damaged(&made, &made.car());
            scene.follow_up();
            Ok(())
        })
    }

    /// A commit that claims to follow another tree than it does, then an honest post.
    pub fn wrong_prev_data(&self, did: &str) -> Result<Happened, Error> {
        self.damage_made(did, |made, _| made.prev_data = Some(Cid::for_dag_cbor(b"no such tree")))
    }

    /// `commits` commits that are never announced, then an honest post.
    pub fn gap(&self, did: &str, commits: usize) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            for n in 0..commits {
                let write = scene.post(&format!("number {n} of those that nobody was told of"));
                scene.commit_silently(vec![write]);
            }
            scene.happened.needs_resync = commits > 0;
            scene.follow_up();
            Ok(())
        })
    }

    // ------------------------------------------------------------------------------------------ odd but sound events

    /// A sound commit of a record that its lexicon does not allow, then an honest post.
    pub fn record_over_limits(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let created_at = scene.created_at();
            let rkey = Rkey::Tid(scene.tid());
            scene.write(vec![Write::create(POST, rkey, records::post_over_limit(&created_at))]);
            scene.follow_up();
            Ok(())
        })
    }

    /// A commit without operations, as hosts make after a change of key, then an honest post.
    pub fn empty_commit(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            scene.write(Vec::new());
            scene.follow_up();
            Ok(())
        })
    }

    /// A commit as hosts made them before there were proofs: without the tree before it, and without what its
    /// operations replaced.
    pub fn legacy_commit(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.profile();
            let mut made = scene.commit_silently(vec![write]);
            made.prev_data = None;
            made.ops.iter_mut().for_each(|op| op.prev = None);
            scene.emit_commit(&made, &made.car());
            scene.follow_up();
            Ok(())
        })
    }

    /// The account's last `events` events once more, with new sequence numbers.
    pub fn replay_old_events(&self, did: &str, events: usize) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let past = scene.network.served.events.entries(Some(scene.actor));
            for (_, _, frame) in past.iter().rev().take(events).rev() {
                let Ok(Message::Commit(mut commit)) = Message::decode(frame) else { continue };
                commit.seq = scene.stage.script.reserve_seq();
                scene.happened.refused_events += 1;
                scene.send(commit.seq, Message::Commit(commit).encode().into());
            }
            scene.follow_up();
            Ok(())
        })
    }

    /// An honest post whose event comes twice, with two sequence numbers.
    pub fn duplicated_event(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.post("said twice");
            let made = scene.commit_silently(vec![write]);
            scene.emit_commit(&made, &made.car());
            scene.emit_commit(&made, &made.car());
            scene.happened.refused_events += 1;
            Ok(())
        })
    }

    // ------------------------------------------------------------------------------------------ accounts

    /// The account moves to another host, which gives it a new key and more records, and announces it with
    /// `#account`, `#identity` and `#sync`, but without commits.
    pub fn migrate(&self, did: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let key_number = 1 + scene.happened.seq as u32 % 1_000_000;
            scene.network.host.rotate_key(scene.actor, key_number);
            let writes = (0..3).map(|n| scene.post(&format!("brought along, number {n}"))).collect();
            scene.commit_silently(writes);
            scene.announce_account(None);
            scene.announce_identity();
            scene.announce_sync();
            scene.happened.needs_resync = true;
            Ok(())
        })
    }

    /// The account gets a new key. If `announced`, `#identity` says so; if not, a consumer finds out when the next
    /// signature does not hold. An honest post follows in both cases.
    pub fn rotate_key(&self, did: &str, announced: bool) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let key_number = 1 + scene.happened.seq as u32 % 1_000_000;
            scene.network.host.rotate_key(scene.actor, key_number);
            if announced {
                scene.announce_identity();
            }
            scene.follow_up();
            Ok(())
        })
    }

    /// The account's host says something else about it: `None` for good standing, `deactivated`, `takendown`,
    /// `suspended`, or `deleted`, which also erases what it did from the stream.
    pub fn set_status(&self, did: &str, status: Option<&'static str>) -> Result<Happened, Error> {
        let actor = self.host.index_of(did).ok_or_else(|| Error::NoAccount(did.to_owned()))?;
        let mut scene = Scene::open(self, did, actor);
        if status == Some("deleted") {
            let gone = scene
                .stage
                .model
                .as_ref()
                .map(|model| model.records(did).map(|(path, _)| format!("at://{did}/{path}")).collect());
            scene.happened.absent = gone.unwrap_or_default();
        }
        scene.announce_account(status);
        Ok(scene.close())
    }

    /// The directory says that the DID is gone. No event tells of it.
    pub fn bury(&self, did: &str) -> Result<(), Error> {
        let actor = self.host.index_of(did).ok_or_else(|| Error::NoAccount(did.to_owned()))?;
        self.host.bury(actor);
        Ok(())
    }

    /// The account gets a handle of its own.
    pub fn change_handle(&self, did: &str, handle: &str) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            scene.stage.script.set_handle(scene.actor, handle.to_owned());
            scene.perform_script();
            scene.happened.handles.push((did.to_owned(), Some(handle.to_owned())));
            Ok(())
        })
    }

    /// `did` takes the handle of `loser`, whose document goes on claiming it and of whom no event tells.
    pub fn contend_handle(&self, did: &str, loser: &str) -> Result<Happened, Error> {
        let other = self.host.index_of(loser).ok_or_else(|| Error::NoAccount(loser.to_owned()))?;
        self.scene(did, |scene| {
            let handle = scene.stage.script.handle_of(other).to_owned();
            scene.stage.script.set_handle(scene.actor, handle.clone());
            scene.perform_script();
            scene.happened.handles.push((did.to_owned(), Some(handle)));
            scene.happened.handles.push((loser.to_owned(), None));
            Ok(())
        })
    }

    // ------------------------------------------------------------------------------------------ the way of each

    fn scene(&self, did: &str, act: impl FnOnce(&mut Scene<'_>) -> Result<(), Error>) -> Result<Happened, Error> {
        let actor = self.host.index_of(did).ok_or_else(|| Error::NoAccount(did.to_owned()))?;
        let mut scene = Scene::open(self, did, actor);
        if !scene.stage.script.is_in_good_standing(actor) {
            return Err(Error::NoAccount(did.to_owned()));
        }
        act(&mut scene)?;
        Ok(scene.close())
    }

    fn damage(&self, did: &str, car: impl FnOnce(&Made) -> Vec<u8>) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.post("post that was damaged on its way");
            let made = scene.commit_silently(vec![write]);
            scene.emit_damaged(&made, &car(&made));
            scene.follow_up();
            Ok(())
        })
    }

    /// Damages a commit; the closure may ask whether what it has is still sound.
    fn damage_made(
        &self,
        did: &str,
        damage: impl FnOnce(&mut Made, &dyn Fn(&Made) -> bool),
    ) -> Result<Happened, Error> {
        self.scene(did, |scene| {
            let write = scene.post("post that was damaged on its way");
            let mut made = scene.commit_silently(vec![write]);
            let key = scene.network.host.key(scene.actor).verifying_key();
            let did = scene.happened.did.clone();
            let is_sound = |made: &Made| match Message::decode(&made.frame(1, &did, 0)) {
                Ok(Message::Commit(commit)) => check_commit(&commit, &key, made.state.rev.micros()).is_ok(),
                _ => false,
            };
            damage(&mut made, &is_sound);
            scene.emit_damaged(&made, &made.car());
            scene.follow_up();
            Ok(())
        })
    }
}

impl<'n> Scene<'n> {
    fn open(network: &'n Network, did: &str, actor: u32) -> Scene<'n> {
        let mut stage = network.stage.lock();
        let now_us = stage.script.clock_us();
        stage.script.pass_time_to(now_us);
        let happened = Happened { did: did.to_owned(), seq: network.head_seq(), ..Happened::default() };
        Scene { network, stage, actor, happened }
    }

    fn close(mut self) -> Happened {
        self.happened.seq = self.network.head_seq();
        self.happened
    }

    // ------------------------------------------------------------------------------------------ records

    fn tid(&mut self) -> Tid {
        self.stage.script.reserve_tid(self.actor)
    }

    fn created_at(&self) -> String {
        datetime::format_ms(self.stage.script.clock_us())
    }

    fn post(&mut self, text: &str) -> Write {
        let created_at = self.created_at();
        Write::create(POST, Rkey::Tid(self.tid()), records::plain_post(text, &created_at))
    }

    /// The next edition of the account's profile, created if it has none.
    fn profile(&mut self) -> Write {
        let mut dice = Dice::new(self.stage.script.clock_us() as u64, Purpose::Fault);
        let created_at = self.created_at();
        let block = records::profile(&mut dice, self.network.host.person(self.actor), 1, None, None, &created_at);
        let has_one = self.network.host.record(self.actor, &format!("{PROFILE}/{SELF}")).is_some();
        let write = if has_one { Write::update } else { Write::create };
        write(PROFILE, Rkey::Word(SELF), block)
    }

    fn must_hold(&self, collection: &'static str, rkey: Rkey) -> Result<(), Error> {
        let path = Write::delete(collection, rkey).path();
        match self.network.host.record(self.actor, &path) {
            Some(_) => Ok(()),
            None => Err(Error::Record("there is none at this URI")),
        }
    }

    fn uri(&self, write: &Write) -> String {
        format!("at://{}/{}", self.happened.did, write.path())
    }

    // ------------------------------------------------------------------------------------------ commits

    /// Commits, shows the oracle, and notes what must show; announces nothing.
    fn commit_silently(&mut self, writes: Vec<Write>) -> Made {
        let rev = self.tid();
        let made = self.network.host.commit(self.actor, rev, &writes);
        if let Some(model) = &mut self.stage.model {
            watch_writes(model, &self.happened.did, &writes);
        }
        for write in &writes {
            let uri = self.uri(write);
            self.happened.present.retain(|(known, _)| *known != uri);
            match &write.block {
                Some(block) if is_valid(write.collection, block) => self.happened.present.push((uri, block.cid)),
                _ => self.happened.absent.push(uri),
            }
        }
        made
    }

    fn write(&mut self, writes: Vec<Write>) {
        let made = self.commit_silently(writes);
        self.emit_commit(&made, &made.car());
    }

    /// An honest post.
    fn follow_up(&mut self) {
        let now_us = self.stage.script.clock_us();
        self.stage.script.pass_time_to(now_us);
        let write = self.post("and all is well");
        self.write(vec![write]);
    }

    /// A commit of one post that the host never makes.
    fn forge(&mut self, text: &str, rev: impl FnOnce(Tid) -> Tid, key: Option<&SigningKey>) -> Made {
        let write = self.post(text);
        self.pretend(vec![write], rev, key)
    }

    fn pretend(&mut self, writes: Vec<Write>, rev: impl FnOnce(Tid) -> Tid, key: Option<&SigningKey>) -> Made {
        let rev = rev(self.tid());
        for write in &writes {
            let uri = self.uri(write);
            self.happened.absent.push(uri);
        }
        let own = self.network.host.key(self.actor);
        self.network.host.pretend(self.actor, rev, &writes, key.unwrap_or(&own))
    }

    // ------------------------------------------------------------------------------------------ events

    fn send(&self, seq: i64, frame: Bytes) {
        self.network.served.events.append([(seq, self.actor, Stored::Memory(frame))]);
    }

    fn emit_commit(&mut self, made: &Made, car: &[u8]) {
        let seq = self.stage.script.reserve_seq();
        let frame = made.frame_with(seq, &self.happened.did, self.stage.script.clock_us(), car);
        self.send(seq, frame);
    }

    fn emit_forged(&mut self, made: &Made) {
        self.emit_commit(made, &made.car());
        self.happened.refused_events += 1;
    }

    fn emit_damaged(&mut self, made: &Made, car: &[u8]) {
        self.emit_commit(made, car);
        self.happened.refused_events += 1;
        self.happened.needs_resync = true;
    }

    fn perform_script(&mut self) {
        let performed = self.stage.perform_pending();
        append(&self.network.served.events, performed);
    }

    fn announce_account(&mut self, status: Option<&'static str>) {
        self.stage.script.announce_status(self.actor, status);
        self.perform_script();
    }

    fn announce_identity(&mut self) {
        let seq = self.stage.script.reserve_seq();
        let (time_us, handle) = (self.stage.script.clock_us(), self.stage.script.handle_of(self.actor));
        let (did, time) = (&*self.happened.did, datetime::format_ms(time_us));
        let frame =
            Message::Identity(IdentityMessage { seq, did, handle: Some(handle), time: &time, time_us }).encode();
        self.send(seq, frame.into());
    }

    fn announce_sync(&mut self) {
        let seq = self.stage.script.reserve_seq();
        let frame = self.network.host.sync_frame(self.actor, seq, self.stage.script.clock_us());
        if let Some(frame) = frame {
            self.send(seq, frame);
        }
    }
}

/// Records of the open web are taken as they are: no AppView checks them.
fn is_valid(collection: &str, block: &Block) -> bool {
    gp_atproto::cbor::decode(&block.bytes)
        .is_ok_and(|value| OPEN_WEB.contains(&collection) || lexicon::validate(collection, &value).is_ok())
}

/// Collections that are kept beside those of the AppView's lexicons.
const OPEN_WEB: [&str; 2] = [records::PUBLICATION, records::DOCUMENT];

/// Collections that have one record, under the key `self`.
fn is_single(collection: &str) -> bool {
    use records::{CHAT_DECLARATION, GERM_DECLARATION, LABELER, NOTIFICATION_DECLARATION, STATUS};
    matches!(collection, PROFILE | STATUS | LABELER | NOTIFICATION_DECLARATION | CHAT_DECLARATION | GERM_DECLARATION)
}

fn known_collection(name: &str) -> Result<&'static str, Error> {
    lexicon::collections()
        .chain(OPEN_WEB)
        .find(|known| *known == name)
        .ok_or(Error::Record("its collection is not one that an AppView keeps"))
}

fn encode(record: &serde_json::Value) -> Result<(&'static str, Block), Error> {
    let kind = record.get("$type").and_then(serde_json::Value::as_str).ok_or(Error::Record("it has no $type"))?;
    let collection = known_collection(kind)?;
    let block = Block::new(json::to_cbor(record).map_err(|_| Error::Record("it is not lex-JSON"))?);
    if is_valid(collection, &block) {
        Ok((collection, block))
    } else {
        Err(Error::Record("its lexicon does not allow it"))
    }
}

fn parse(uri: &str) -> Result<(&str, &'static str, Rkey), Error> {
    let (did, collection, rkey) =
        aturi::AtUri::record_parts(uri).ok_or(Error::Record("its URI is not one of a record"))?;
    let rkey = match Tid::parse(rkey) {
        Ok(tid) => Rkey::Tid(tid),
        Err(_) if rkey == SELF => Rkey::Word(SELF),
        Err(_) => return Err(Error::Record("its key is neither a TID nor self")),
    };
    Ok((did, known_collection(collection)?, rkey))
}
