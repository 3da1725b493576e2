"""The API reference: an OpenAPI document made from routes, schemas and the policy table, and a page for people."""
