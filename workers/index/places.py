"""Where the versions of collections stand on a Qdrant server, and which of them are live.

Version 2 of `shop` is the Qdrant collection `shop@2`, with its model card as metadata, and `shop` is an alias of the
version that is live. The metadata of that one also holds the highest number that was dropped. A collection from before
there were versions stands under the plain name itself. It is used as it is, as version 1, and keeps the name: Qdrant
cannot rename a collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from qdrant_client import QdrantClient, models

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError
from workers.index.interface import Collection, FieldType, split_key, version_key
from workers.index.refusals import check_model, check_name, live_version, no_collection, used_number
from workers.index.replies import asking

_CARD = "lookalike"
_VERSION = "lookalike_version"
_DROPPED = "lookalike_dropped"


@dataclass(frozen=True)
class Known:
    """A collection as it was last seen. `place` is its name or alias on the server."""

    place: str
    card: ModelCard


class Places:
    """Safe to share between threads. Collections that others made are left alone."""

    def __init__(self, client: QdrantClient, url: str) -> None:
        self._client = client
        self._url = url
        self._known: dict[str, Known] = {}

    def known(self, name: str) -> Known:
        """Asked for once, until `forget`. COLLECTION_NOT_FOUND also for one that is not ours."""
        known = self._known.get(name)
        if known is None:
            collection = self.find(name)
            if collection is None:
                raise no_collection(name)
            # A plain name is asked for as it is: what it stands for changes.
            known = self._known.get(name) or Known(name, collection.card)
            self._known[name] = known
        return known

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def collections(self) -> list[Collection]:
        with asking(self._url):
            aliases = self._client.get_aliases().aliases
        versioned = {
            each.alias_name for each in aliases if split_key(each.collection_name)[0] == each.alias_name
        }
        unversioned = {place for place in self._standing() if split_key(place)[1] is None}
        found = [self.find(name) for name in sorted(versioned | unversioned)]
        return [collection for collection in found if collection]

    def find(self, name: str) -> Collection | None:
        plain, version = split_key(name)
        info = self._info(name)
        if info is None and version == 1:
            info = self._unversioned(plain)
        card = _card(info) if info else None
        if info is None or card is None:
            return None
        written = _version(info)
        live = version is None or written is None or plain in self._aliases(name)
        collection = Collection(plain, written or 1, card, _indexes(info), live)
        self._known[collection.key] = Known(collection.key if written else plain, card)
        return collection

    def versions(self, name: str) -> list[Collection]:
        live = self.find(name)
        if live is None or live.name != name:
            raise no_collection(name)
        split = map(split_key, self._standing())
        numbers = {live.version, *(version for plain, version in split if plain == name and version)}
        found = [self.find(version_key(name, number)) for number in sorted(numbers)]
        return [collection for collection in found if collection]

    def create(self, name: str, card: ModelCard) -> bool:
        plain, version = check_name(name)
        standing, made = self.find(name), False
        if standing is None:
            self._refuse_taken(plain, version, card)
            key = version_key(plain, version or 1)
            made = self._make(key, version or 1, card)
            standing = self.find(key)
            # Also one that another worker made just now, or died over before it could go live.
            if version is None and standing and not self.find(plain):
                self._point(plain, key)
        check_model(name, standing.card if standing else None, card)
        return made

    def go_live(self, name: str, version: int) -> None:
        key = version_key(name, version)
        collection = self.find(key)
        if collection is None:
            raise no_collection(key)
        if not collection.live:
            self._refuse_unversioned(name)
            if dropped := self._dropped(name):
                self._keep_dropped(key, dropped)
            self._point(name, key)
        self.forget(name)

    def drop(self, name: str) -> None:
        plain, version = split_key(name)
        collection = self.find(name)
        if collection is None:
            raise no_collection(name)
        if version is None:
            # The live one last, and its alias with it: until then the collection stands.
            for other in self.versions(plain):
                if not other.live:
                    self._delete(other.key)
        elif collection.live:
            raise live_version(name)
        else:
            self._keep_dropped(plain, max(version, self._dropped(plain)))
        self._delete(collection.key)
        self.forget(name)

    def _make(self, key: str, version: int, card: ModelCard) -> bool:
        """False where it stands already."""
        try:
            with asking(self._url, key):
                self._client.create_collection(
                    key,
                    vectors_config=models.VectorParams(size=card.dimension, distance=models.Distance.COSINE),
                    metadata={_CARD: card.model_dump(), _VERSION: version},
                )
        except RequestError:
            if self._info(key) is None:
                raise
            return False
        return True

    def _point(self, name: str, key: str) -> None:
        """The alias is taken away and given in one step."""
        away = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))
        to = models.CreateAlias(alias_name=name, collection_name=key)
        with asking(self._url, key):
            self._client.update_collection_aliases([away, models.CreateAliasOperation(create_alias=to)])

    def _delete(self, key: str) -> None:
        place = self.known(key).place
        with asking(self._url, key):
            self._client.delete_collection(place)
        self.forget(key)

    def _dropped(self, name: str) -> int:
        """The highest number of a version of this plain name that was dropped."""
        info = self._info(name)
        return int((info.config.metadata or {}).get(_DROPPED, 0)) if info else 0

    def _keep_dropped(self, place: str, number: int) -> None:
        with asking(self._url, place):
            self._client.update_collection(place, metadata={_DROPPED: number})

    def _refuse_taken(self, name: str, version: int | None, card: ModelCard) -> None:
        """A collection that is not ours, a version of nothing, or of what cannot have several."""
        info = self._info(name)
        if version is None:
            if info:
                check_model(name, _card(info), card)
        elif info is None or _card(info) is None:
            raise no_collection(name)
        else:
            self._refuse_unversioned(name)
            if version <= self._dropped(name):
                raise used_number(version_key(name, version))

    def _refuse_unversioned(self, name: str) -> None:
        if self._unversioned(name):
            raise RequestError(
                RequestCode.INVALID_REQUEST,
                f"Collection `{name}` is from before there were versions, and Qdrant cannot give its name to another "
                f"one. Export it, delete it and import it again (`lookalike export {name} FOLDER`, then "
                f"`lookalike import FOLDER --collection {name}`): that brings it back as `{version_key(name, 1)}`, "
                "without embedding.",
            )

    def _unversioned(self, name: str) -> models.CollectionInfo | None:
        info = self._info(name)
        return info if info and _card(info) and _version(info) is None else None

    def _aliases(self, place: str) -> list[str]:
        with asking(self._url, place):
            return [alias.alias_name for alias in self._client.get_collection_aliases(place).aliases]

    def _standing(self) -> list[str]:
        with asking(self._url):
            return [entry.name for entry in self._client.get_collections().collections]

    def _info(self, place: str) -> models.CollectionInfo | None:
        try:
            with asking(self._url, place):
                return self._client.get_collection(place)
        except RequestError as error:
            if error.code is RequestCode.COLLECTION_NOT_FOUND:
                return None
            raise


def _card(info: models.CollectionInfo) -> ModelCard | None:
    """None for a collection that we did not make."""
    card = (info.config.metadata or {}).get(_CARD)
    return ModelCard.model_validate(card) if card else None


def _version(info: models.CollectionInfo) -> int | None:
    return (info.config.metadata or {}).get(_VERSION)


def _indexes(info: models.CollectionInfo) -> dict[str, FieldType]:
    return {field: cast(FieldType, index.data_type.value) for field, index in info.payload_schema.items()}
