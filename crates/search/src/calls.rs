//! The nine calls.

use gp_index::{
    Cx, Error, Result, records,
    search::{Answering, SearchSource},
};
use gp_proto as proto;
use tantivy::query::{EmptyQuery, Query};

use crate::{
    Search, cursor,
    find::{self, Order, Plan},
    page::{Keep, Page, dids},
    query::{self, CONDITIONS_MAX, Conditions, Facet},
    schema::{BEGINNING_CHARS_MAX, HANDLE_BEGINNING_CHARS_MAX, IS_HANDLED, of_kind, shortened},
    subject::{ACTOR, GENERATOR, PACK},
    words::{self, Sought},
};

/// A page for a caller that says nothing of its own, as the reference has it.
const LIMIT_DEFAULT: i32 = 25;

/// Accounts shown while somebody types, unless told otherwise.
const TYPEAHEAD_DEFAULT: i32 = 10;

/// Without `all_time` nothing older is found.
const RECENT_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// Values of one filter; more are refused.
const FILTER_VALUES_MAX: usize = 1_000;

impl Search {
    async fn actors(&self, cx: &Cx, req: proto::SearchActorsRequest) -> Result<proto::SearchActorsResponse> {
        let after = cursor::read_ranked(&req.cursor)?;
        let plan = self.actors_plan(&req.term, false);
        let page = self.page(cx, plan, after, req.limit, Keep::Standing, false).await?;
        let cursor = cursor::ranked(&page);
        Ok(proto::SearchActorsResponse { dids: addresses(page), cursor })
    }

    async fn actors_v2(&self, cx: &Cx, req: proto::SearchActorsV2Request) -> Result<proto::SearchActorsV2Response> {
        let params = params(req.params);
        let after = cursor::read_v2(&params.cursor, Order::Level)?;
        let plan = self.actors_plan(&params.query, false);
        let page = self.page(cx, plan, after, params.limit, Keep::Standing, true).await?;
        let page_info = page_info(&page, Order::Level);
        Ok(proto::SearchActorsV2Response { actors: actor_results(page), page_info })
    }

    async fn typeahead(
        &self,
        cx: &Cx,
        req: proto::SearchActorsTypeaheadRequest,
    ) -> Result<proto::SearchActorsTypeaheadResponse> {
        let params = req.params.unwrap_or_default();
        if handle_typed(&params.query).is_empty() {
            return Ok(proto::SearchActorsTypeaheadResponse::default());
        }
        let limit = if params.limit == 0 { TYPEAHEAD_DEFAULT } else { params.limit };
        let plan = self.actors_plan(&params.query, true);
        let page = self.page(cx, plan, None, limit, Keep::Shown, false).await?;
        Ok(proto::SearchActorsTypeaheadResponse { actors: actor_results(page) })
    }

    async fn posts(&self, cx: &Cx, req: proto::SearchPostsRequest) -> Result<proto::SearchPostsResponse> {
        let after = cursor::read_timed(&req.cursor)?;
        let mut conditions = query::read(&req.term);
        let query = match resolve(cx, &mut conditions).await? {
            true => find::posts(&self.fields, &conditions),
            false => Box::new(EmptyQuery),
        };
        let plan = Plan {
            tiers: vec![query],
            order: Order::Recent,
            since_us: conditions.since_us,
            until_us: conditions.until_us,
            authors: None,
        };
        let page = self.page(cx, plan, after, req.limit, Keep::Shown, false).await?;
        let cursor = cursor::timed(&page);
        Ok(proto::SearchPostsResponse { uris: addresses(page), cursor })
    }

    async fn posts_v2(&self, cx: &Cx, req: proto::SearchPostsV2Request) -> Result<proto::SearchPostsV2Response> {
        let params = params(req.params.clone());
        // A caller that names no order is shown the newest, as the first generation does.
        let order = match proto::SearchSortOrder::try_from(req.sort) {
            Ok(proto::SearchSortOrder::Top) => Order::Top,
            Ok(_) => Order::Recent,
            Err(_) => return Err(Error::invalid("sort", "is not an order of the contract: ask for RECENT or TOP")),
        };
        let after = if order == Order::Recent && params.cursor.contains("__") {
            // A client may still hold a token of the first generation.
            cursor::read_timed(&params.cursor)?
        } else {
            cursor::read_v2(&params.cursor, order)?
        };
        let mut conditions = query::read(&params.query);
        filter(&mut conditions, &req)?;
        if conditions.is_empty() && req.following != Some(true) {
            return Err(Error::invalid("params.query", "is empty: ask for words or set a filter"));
        }
        window(cx, &mut conditions, &req);
        let authors = if req.following == Some(true) {
            if params.viewer.is_empty() {
                return Err(Error::invalid("following", "needs a viewer"));
            }
            Some(self.follows(cx, &params.viewer).await?)
        } else {
            None
        };
        let query = match resolve(cx, &mut conditions).await? {
            true => find::posts(&self.fields, &conditions),
            false => Box::new(EmptyQuery),
        };
        let plan =
            Plan { tiers: vec![query], order, since_us: conditions.since_us, until_us: conditions.until_us, authors };
        let page = self.page(cx, plan, after, params.limit, Keep::Shown, true).await?;
        let page_info = page_info(&page, order);
        Ok(proto::SearchPostsV2Response {
            posts: record_results(page),
            page_info,
            detected_query_languages: languages(&params.query, req.query_language)?,
        })
    }

    async fn packs(&self, cx: &Cx, req: proto::SearchStarterPacksRequest) -> Result<proto::SearchStarterPacksResponse> {
        let after = cursor::read_timed(&req.cursor)?;
        let tiers = self.named_tiers(PACK, &req.term);
        // By time alone, whether the name or the description has the words.
        let either = Box::new(tantivy::query::BooleanQuery::union(tiers));
        let plan = Plan { tiers: vec![either], order: Order::Recent, since_us: None, until_us: None, authors: None };
        let page = self.page(cx, plan, after, req.limit, Keep::Standing, false).await?;
        let cursor = cursor::timed(&page);
        Ok(proto::SearchStarterPacksResponse { uris: addresses(page), cursor })
    }

    async fn packs_v2(
        &self,
        cx: &Cx,
        req: proto::SearchStarterPacksV2Request,
    ) -> Result<proto::SearchStarterPacksV2Response> {
        let page = self.named_v2(cx, PACK, req.params, Keep::Standing).await?;
        let page_info = page_info(&page, Order::Level);
        Ok(proto::SearchStarterPacksV2Response { starter_packs: record_results(page), page_info })
    }

    async fn generators(
        &self,
        cx: &Cx,
        req: proto::SearchFeedGeneratorsRequest,
    ) -> Result<proto::SearchFeedGeneratorsResponse> {
        let plan = level_plan(self.named_tiers(GENERATOR, &req.query));
        let page = self.page(cx, plan, None, req.limit, Keep::Shown, false).await?;
        Ok(proto::SearchFeedGeneratorsResponse { uris: addresses(page) })
    }

    async fn generators_v2(
        &self,
        cx: &Cx,
        req: proto::SearchFeedGeneratorsV2Request,
    ) -> Result<proto::SearchFeedGeneratorsV2Response> {
        let page = self.named_v2(cx, GENERATOR, req.params, Keep::Shown).await?;
        let page_info = page_info(&page, Order::Level);
        Ok(proto::SearchFeedGeneratorsV2Response { feed_generators: record_results(page), page_info })
    }

    async fn named_v2(
        &self,
        cx: &Cx,
        kind: &'static str,
        given: Option<proto::SearchParams>,
        keep: Keep,
    ) -> Result<Page> {
        let params = params(given);
        let after = cursor::read_v2(&params.cursor, Order::Level)?;
        let plan = level_plan(self.named_tiers(kind, &params.query));
        self.page(cx, plan, after, params.limit, keep, true).await
    }

    /// Accounts: the exact handle or DID; then handles and whole names; then every word begins a word of name or
    /// handle; then every word is somewhere in the profile. An empty question is everybody with a handle.
    fn actors_plan(&self, term: &str, typing: bool) -> Plan {
        let fields = &self.fields;
        let term: String = term.chars().take(query::QUERY_CHARS_MAX).collect();
        let handle = handle_typed(&term);
        if handle.is_empty() {
            return level_plan(vec![find::term(fields.is, IS_HANDLED)]);
        }
        let handle_begins = if handle.chars().count() <= HANDLE_BEGINNING_CHARS_MAX {
            find::term(fields.handle_begins, &handle)
        } else {
            find::beginning(fields.exact, shortened(&handle))
        };
        let whole_name = find::term(fields.name, &of_kind(ACTOR, shortened(words::fold(&term).trim())));
        let mut tiers = vec![
            find::term(fields.exact, shortened(&handle)),
            Box::new(tantivy::query::BooleanQuery::union(vec![handle_begins, whole_name])) as _,
        ];
        tiers.extend(self.begun(ACTOR, &term));
        if !typing {
            tiers.extend(self.about(ACTOR, &term));
        }
        level_plan(tiers)
    }

    /// Things with a name: every word begins a word of the name; then every word is in name or description. An empty
    /// question is all of them.
    fn named_tiers(&self, kind: &'static str, term: &str) -> Vec<Box<dyn Query>> {
        let term: String = term.trim().chars().take(query::QUERY_CHARS_MAX).collect();
        if term.is_empty() {
            return vec![find::term(self.fields.kind, kind)];
        }
        let mut tiers: Vec<Box<dyn Query>> =
            self.begun(kind, &term).into_iter().chain(self.about(kind, &term)).collect();
        if tiers.is_empty() {
            tiers.push(Box::new(EmptyQuery));
        }
        tiers
    }

    fn begun(&self, kind: &str, term: &str) -> Option<Box<dyn Query>> {
        let sought = words::sought_beginnings(term, BEGINNING_CHARS_MAX);
        let each = sought.iter().take(CONDITIONS_MAX).map(|it| find::term(self.fields.begins, &of_kind(kind, it)));
        (!sought.is_empty()).then(|| find::all_of(each.collect()))
    }

    fn about(&self, kind: &'static str, term: &str) -> Option<Box<dyn Query>> {
        let phrases: Vec<Vec<(usize, Sought)>> =
            term.split_whitespace().take(CONDITIONS_MAX).map(words::phrase).filter(|it| !it.is_empty()).collect();
        if phrases.is_empty() {
            return None;
        }
        let words = phrases.iter().map(|it| find::phrase(self.fields.about, it));
        Some(find::all_of([find::term(self.fields.kind, kind)].into_iter().chain(words).collect()))
    }
}

fn level_plan(tiers: Vec<Box<dyn Query>>) -> Plan {
    Plan { tiers, order: Order::Level, since_us: None, until_us: None, authors: None }
}

/// What was typed, read as a handle.
fn handle_typed(term: &str) -> String {
    let term = term.trim();
    term.strip_prefix('@').unwrap_or(term).to_lowercase()
}

fn params(given: Option<proto::SearchParams>) -> proto::SearchParams {
    given.unwrap_or(proto::SearchParams { limit: LIMIT_DEFAULT, ..Default::default() })
}

/// Adds the filters of a request to what was typed.
fn filter(conditions: &mut Conditions, req: &proto::SearchPostsV2Request) -> Result<()> {
    if let Some(filters) = &req.filters {
        for (facet, values) in facets(filters)? {
            if !values.is_empty() {
                conditions.any_of.push((facet, values));
            }
        }
    }
    if let Some(exclude) = &req.exclude {
        for (facet, values) in facets(exclude)? {
            if !values.is_empty() {
                conditions.none_of.push((facet, values));
            }
        }
    }
    if req.exclude_replies == Some(true) && req.replies_only == Some(true) {
        return Err(Error::invalid("exclude_replies", "cannot stand together with replies_only"));
    }
    conditions.reply = match (req.exclude_replies, req.replies_only) {
        (Some(true), _) => Some(false),
        (_, Some(true)) => Some(true),
        _ => None,
    };
    // False is no condition: the lexicon words both as "only".
    conditions.media = req.has_media == Some(true);
    conditions.video = req.has_video == Some(true);
    for (facet, uri) in [(Facet::Parent, &req.reply_parent_uri), (Facet::Root, &req.thread_root_uri)] {
        if let Some(uri) = uri.as_ref().filter(|uri| !uri.is_empty()) {
            conditions.any_of.push((facet, vec![uri.clone()]));
        }
    }
    if let Some(since) = &req.since {
        conditions.since(records::micros(since));
    }
    if let Some(until) = &req.until {
        conditions.until(records::micros(until));
    }
    Ok(())
}

/// The window of time that holds without being asked for.
fn window(cx: &Cx, conditions: &mut Conditions, req: &proto::SearchPostsV2Request) {
    let now_us = (cx.now_us)();
    if req.until.is_none() {
        // A post of this very moment is found as well.
        conditions.until(now_us.saturating_add(1));
    }
    if req.all_time != Some(true) {
        conditions.since(now_us.saturating_sub(RECENT_US));
    }
}

/// The values of a set of filters as the index has them.
fn facets(given: &proto::PostsFilters) -> Result<[(Facet, Vec<String>); 7]> {
    let as_is = |value: &str| value.to_owned();
    let named = |facet, field: &'static str, values: &[String], make: fn(&str) -> String| {
        if values.len() > FILTER_VALUES_MAX {
            return Err(Error::invalid(
                field,
                format!("has {} values: send {FILTER_VALUES_MAX} at most", values.len()),
            ));
        }
        Ok((facet, values.iter().map(|value| make(value)).filter(|value| !value.is_empty()).collect::<Vec<_>>()))
    };
    Ok([
        named(Facet::Author, "authors", &given.authors, as_is)?,
        named(Facet::Mention, "mentions", &given.mentions, as_is)?,
        named(Facet::Domain, "domains", &given.domains, query::domain_of)?,
        named(Facet::Url, "urls", &given.urls, query::url_of)?,
        named(Facet::Embed, "embedded_at_uris", &given.embedded_at_uris, as_is)?,
        named(Facet::Tag, "hashtags", &given.hashtags, query::tag_of)?,
        named(Facet::Language, "languages", &given.languages, query::language_of)?,
    ])
}

/// Puts DIDs where handles were named. False if somebody must be the author, or be mentioned, whom nobody knows.
async fn resolve(cx: &Cx, conditions: &mut Conditions) -> Result<bool> {
    let is_person = |(facet, _): &&mut (Facet, Vec<String>)| matches!(facet, Facet::Author | Facet::Mention);
    for (_, names) in conditions.any_of.iter_mut().filter(is_person) {
        *names = dids(cx, names).await?.into_iter().flatten().collect();
        if names.is_empty() {
            return Ok(false);
        }
    }
    for (_, names) in conditions.none_of.iter_mut().filter(is_person) {
        // Nobody has written or mentions what nobody holds.
        *names = dids(cx, names).await?.into_iter().flatten().collect();
    }
    conditions.none_of.retain(|(_, values)| !values.is_empty());
    Ok(true)
}

/// Languages of a question: of its script, or the one the caller insists on if its script allows.
fn languages(question: &str, forced: Option<i32>) -> Result<Vec<String>> {
    let found = words::languages(question);
    let forced = match forced.map(proto::SearchQueryLanguage::try_from) {
        None | Some(Ok(proto::SearchQueryLanguage::Unspecified)) => None,
        Some(Ok(proto::SearchQueryLanguage::Ja)) => Some("ja"),
        Some(Ok(proto::SearchQueryLanguage::Zh)) => Some("zh"),
        Some(Ok(proto::SearchQueryLanguage::Ko)) => Some("ko"),
        Some(Ok(proto::SearchQueryLanguage::Th)) => Some("th"),
        Some(Ok(proto::SearchQueryLanguage::Ar)) => Some("ar"),
        Some(Err(_)) => return Err(Error::invalid("query_language", "is not a language of the contract")),
    };
    Ok(match forced {
        Some(forced) => vec![forced.to_owned()],
        None => found.into_iter().map(str::to_owned).collect(),
    })
}

fn addresses(page: Page) -> Vec<String> {
    page.hits.into_iter().map(|it| it.hit.uri).collect()
}

fn page_info(page: &Page, order: Order) -> Option<proto::PageInfo> {
    let hits_total = i64::try_from(page.total).unwrap_or(i64::MAX);
    Some(proto::PageInfo { cursor: cursor::v2(page, order), hits_total })
}

/// A number that falls along the page: the rank in days, less a great deal for each tier.
fn score(place: find::Place) -> f64 {
    const TIER: f64 = 1e9;
    const DAY_US: f64 = 86_400e6;
    (9.0 - f64::from(place.tier)) * TIER + place.rank.primary as f64 / DAY_US
}

fn actor_results(page: Page) -> Vec<proto::SearchActorResult> {
    page.hits.into_iter().map(|it| proto::SearchActorResult { score: score(it.hit.place), did: it.hit.uri }).collect()
}

fn record_results(page: Page) -> Vec<proto::SearchRecordResult> {
    page.hits.into_iter().map(|it| proto::SearchRecordResult { score: score(it.hit.place), uri: it.hit.uri }).collect()
}

impl SearchSource for Search {
    fn search_actors<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchActorsRequest,
    ) -> Answering<'a, proto::SearchActorsResponse> {
        Box::pin(self.actors(cx, req))
    }

    fn search_posts<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchPostsRequest,
    ) -> Answering<'a, proto::SearchPostsResponse> {
        Box::pin(self.posts(cx, req))
    }

    fn search_starter_packs<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchStarterPacksRequest,
    ) -> Answering<'a, proto::SearchStarterPacksResponse> {
        Box::pin(self.packs(cx, req))
    }

    fn search_feed_generators<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchFeedGeneratorsRequest,
    ) -> Answering<'a, proto::SearchFeedGeneratorsResponse> {
        Box::pin(self.generators(cx, req))
    }

    fn search_posts_v2<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchPostsV2Request,
    ) -> Answering<'a, proto::SearchPostsV2Response> {
        Box::pin(self.posts_v2(cx, req))
    }

    fn search_actors_v2<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchActorsV2Request,
    ) -> Answering<'a, proto::SearchActorsV2Response> {
        Box::pin(self.actors_v2(cx, req))
    }

    fn search_actors_typeahead<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchActorsTypeaheadRequest,
    ) -> Answering<'a, proto::SearchActorsTypeaheadResponse> {
        Box::pin(self.typeahead(cx, req))
    }

    fn search_feed_generators_v2<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchFeedGeneratorsV2Request,
    ) -> Answering<'a, proto::SearchFeedGeneratorsV2Response> {
        Box::pin(self.generators_v2(cx, req))
    }

    fn search_starter_packs_v2<'a>(
        &'a self,
        cx: &'a Cx,
        req: proto::SearchStarterPacksV2Request,
    ) -> Answering<'a, proto::SearchStarterPacksV2Response> {
        Box::pin(self.packs_v2(cx, req))
    }
}
