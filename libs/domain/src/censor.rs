//! Removes secrets from everything stored or posted.
