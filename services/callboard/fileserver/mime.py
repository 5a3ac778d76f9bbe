"""Content types by the ends of names: a table of our own, the same on every machine. Pure."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"

_TYPES = {
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs cjs",
    "text/plain": "txt text log conf ini toml yaml yml py sh c h rs go",
    "text/markdown": "md markdown",
    "text/csv": "csv",
    "text/calendar": "ics",
    "text/vtt": "vtt",
    "text/xml": "xml xsl",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "application/xhtml+xml": "xhtml",
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-tar": "tar",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
    "application/epub+zip": "epub",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/vnd.microsoft.icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg oga opus",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/aac": "aac",
    "audio/mp4": "m4a",
    "video/mp4": "mp4 m4v m4s",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _TYPES.items() for suffix in suffixes.split()}


def content_type(name: str) -> str:
    """The Content-Type of a file of this name: UTF-8 for text, octets for what is not known."""
    _, dot, suffix = name.rpartition(".")
    kind = _BY_SUFFIX.get(suffix.lower(), UNKNOWN) if dot else UNKNOWN
    if kind.startswith("text/") or kind.endswith(("+xml", "manifest+json")):
        return f"{kind}; charset=utf-8"
    return kind
