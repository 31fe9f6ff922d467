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
mod logs;
mod metrics;
mod price;
mod rpc;
mod rpcs;
mod server;
mod status;
mod top;
mod transport;
mod wire;

pub use admin::{Label, Lines, NoOperator, Operation, Operator, OperatorError, SuggestedEntity, SuggestedList};
pub use caller::{CALLERS_MAX, CallerId, Callers};
pub use config::{Config, ConfigError};
pub use logs::{LEVELS, LogCounts, SITES, SUPPRESSED};
pub use metrics::Metrics;
pub use price::{Keyed, Price, each, one, page};
pub use rpc::{Answer, Asked, Class, Instead, Response, Row, Rpc, Rpcs, Running};
pub use rpcs::Method;
pub use server::{Server, serve};
pub use status::{Code, Shed, Status};
