//! What the network asks of us, and how it is answered: gRPC for the AppView, and a port for operators.
//!
//! The way of a call: a connection ([`transport`]), the codec that knows gRPC, [`call`] (who asks, what does it cost,
//! may it begin, answer, count), a row of [`rpcs`], and a function of the index. Functions see a decoded request and
//! never a transport.
//!
//! What deliberately does not live here: what an answer says (that is `index`), and anything that reads the network.

mod admin;
mod admission;
mod budget;
mod call;
mod caller;
mod config;
mod history;
pub mod host;
mod logs;
mod metrics;
mod price;
mod rpc;
mod rpcs;
mod server;
mod status;
mod threads;
mod top;
mod trace;
mod transport;
mod wire;

pub use admin::{Label, Lines, NoOperator, Operation, Operator, OperatorError, SuggestedEntity, SuggestedList};
pub use caller::{CALLERS_MAX, CallerId, Callers};
pub use config::{Config, ConfigError};
pub use logs::{LEVELS, LINES_PER_SECOND_MAX, LINES_PER_SECOND_OF_ONE, LogCounts, SITES, SUPPRESSED};
pub use metrics::{Metrics, Page, Peer, Source, catalog};
pub use price::{Keyed, Price, each, one, page};
pub use rpc::{Answer, Asked, Class, Instead, Response, Row, Rpc, Rpcs, Running};
pub use rpcs::Method;
pub use server::{Server, serve};
pub use status::{Code, Shed, Status};
pub use threads::runtime;
pub use trace::{Context as TraceContext, STAGES_MAX, Stage, Stages, Trace, Traces};
