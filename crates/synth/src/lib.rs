//! groundplane-synth
