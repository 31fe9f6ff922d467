//! Certificates for a cluster that speaks TLS: made anew for each, and of no use for anything else.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// Who signs them.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
}

/// Makes a signer, and puts into a folder: `ca.pem`, what to trust; `plane.pem` and `plane.key`, for a client; and
/// `stranger.pem`, a signer whom nobody trusts.
pub(super) fn make(folder: &Path) -> Result<Signer> {
    fs::create_dir_all(folder)?;
    let signer = signer(&folder.join("ca.pem"))?;
    self::signer(&folder.join("stranger.pem"))?;
    let (certificate, key) = signer.sign(Vec::new())?;
    write(&folder.join("plane.pem"), &certificate)?;
    write(&folder.join("plane.key"), &key)?;
    Ok(signer)
}

impl Signer {
    /// Writes a node's key and certificate into one file, as Cassandra reads them.
    pub(super) fn node(&self, file: &Path, address: &str) -> Result<()> {
        let address: IpAddr = address.parse()?;
        let (certificate, key) = self.sign(vec![SanType::IpAddress(address)])?;
        write(file, &format!("{key}{certificate}"))
    }

    fn sign(&self, names: Vec<SanType>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn signer(file: &Path) -> Result<Signer> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write(file, &params.self_signed(&key)?.pem())?;
    Ok(Signer { issuer: Issuer::new(params, key) })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}
