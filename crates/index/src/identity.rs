//! Who is behind a DID or a handle, from the directory and not from our rows.

use gp_proto as proto;
use serde_json::{Map, Value, json};

use crate::{Cx, Error, Resolution, Result, records::timestamp};

/// The document of a DID.
pub async fn get_identity_by_did(
    cx: &Cx,
    req: proto::GetIdentityByDidRequest,
) -> Result<proto::GetIdentityByDidResponse> {
    let found = cx.identity.by_did(&req.did).await?;
    let (keys, services) = parts(&found)?;
    Ok(proto::GetIdentityByDidResponse {
        did: found.did,
        handle: found.handle,
        keys: keys.into(),
        services: services.into(),
        updated: Some(timestamp(crate::placed::cut_to_ms((cx.now_us)()))),
    })
}

/// The DID of a handle, as DNS or its site says, and its document.
pub async fn get_identity_by_handle(
    cx: &Cx,
    req: proto::GetIdentityByHandleRequest,
) -> Result<proto::GetIdentityByHandleResponse> {
    let did = cx.identity.did_of_handle(&req.handle.to_lowercase()).await?;
    let found = cx.identity.by_did(&did).await?;
    if found.did != did {
        return Err(Error::Absent("identity"));
    }
    let (keys, services) = parts(&found)?;
    Ok(proto::GetIdentityByHandleResponse {
        handle: req.handle,
        did: found.did,
        keys: keys.into(),
        services: services.into(),
        updated: Some(timestamp(crate::placed::cut_to_ms((cx.now_us)()))),
    })
}

/// Keys and services of a document as the contract wants them: by fragment, with these very names of members
/// (read-rpcs 5.10).
fn parts(found: &Resolution) -> Result<(Vec<u8>, Vec<u8>)> {
    let document: Value = serde_json::from_str(&found.document)
        .map_err(|e| Error::Upstream(format!("the document of {}: {e}", found.did)))?;
    let (mut keys, mut services) = (Map::new(), Map::new());
    let entries = |name: &str| document.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let fragment = |entry: &Value| {
        entry.get("id").and_then(Value::as_str).and_then(|id| id.rsplit_once('#')).map(|(_, name)| name.to_owned())
    };
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for entry in entries("verificationMethod") {
        if let Some(name) = fragment(&entry) {
            keys.insert(
                name,
                json!({ "Type": text(&entry, "type"), "PublicKeyMultibase": text(&entry, "publicKeyMultibase") }),
            );
        }
    }
    for entry in entries("service") {
        if let Some(name) = fragment(&entry)
            && entry.get("serviceEndpoint").is_some_and(Value::is_string)
        {
            services.insert(name, json!({ "Type": text(&entry, "type"), "URL": text(&entry, "serviceEndpoint") }));
        }
    }
    Ok((Value::Object(keys).to_string().into_bytes(), Value::Object(services).to_string().into_bytes()))
}
