"""What TechMarket is made of, audited: advisories, weaknesses in its own code, images and manifests, licenses; and its SBOM."""
