// Package layers turns a reference into an image's layers, each a folder of plain files and an index of their true metadata
// (layers/index), and its configuration. An image comes from a registry, an OCI image layout, a docker archive, or a folder
// that is served as it is. A layer is fetched, verified and unpacked once, needs no privilege, and belongs to every image that has it.
package layers
