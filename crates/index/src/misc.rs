//! Calls that belong to no subject.

use gp_proto as proto;

use crate::{Cx, Error, Result};

/// Answers when reads can be served.
pub async fn ping(cx: &Cx, _req: proto::PingRequest) -> Result<proto::PingResponse> {
    if cx.writer.failed() {
        return Err(Error::Draining("writing has failed, this process must be restarted"));
    }
    Ok(proto::PingResponse {})
}
