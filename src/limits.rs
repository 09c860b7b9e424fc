//! Every bound in one place, each with its reason. Relations between them are held by `const` assertions.
