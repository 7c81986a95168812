//! The network: registries, chart repositories, files. Everything it brings is checked against a digest.
