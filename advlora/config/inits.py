"""How the two factors of a low-rank adapter are initialised: one class per initialisation, with its own keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from advlora.config.base import Count, Section, Seed, default_kind


class Init(Section):
    """An initialisation of B and A; what B A adds to a layer at the start is subtracted from its frozen weight."""

    kind: str
    title: ClassVar[str]
    """Its name in tables and figures."""
    from_zero: ClassVar[bool] = False
    """Whether B is zero, so that nothing has to be subtracted from the weight."""
    clustered: ClassVar[bool] = False
    """Whether clusters themselves are the start, so that alignment can compare with them."""


class GaussianInit(Init):
    """LoRA's own: A is Gaussian, B is zero (Hu et al. 2022)."""

    kind: Literal["gaussian"] = "gaussian"
    title: ClassVar[str] = "gaussian"
    from_zero: ClassVar[bool] = True


class PissaInit(Init):
    """The leading singular directions of the weight (PiSSA, Meng et al. 2024)."""

    kind: Literal["pissa"] = "pissa"
    title: ClassVar[str] = "PiSSA"


class MiloraInit(Init):
    """The trailing singular directions of the weight (MiLoRA, Wang et al. 2024)."""

    kind: Literal["milora"] = "milora"
    title: ClassVar[str] = "MiLoRA"


class OloraInit(Init):
    """Orthonormal columns for B, from the QR decomposition of the weight (OLoRA, Büyükakyüz 2024)."""

    kind: Literal["olora"] = "olora"
    title: ClassVar[str] = "OLoRA"


class ClusterInit(Init):
    """An initialisation that divides the rows or columns of the weight into clusters."""

    clusters: Count | None = None
    """Number of clusters K; None means the rank."""
    axis: Literal["rows", "columns"] = "rows"
    """What is clustered: the rows or the columns of a weight."""
    seed: Seed | None = None
    """Seed of the clusters; None means the trial's seed."""
    algorithm: ClassVar[Literal["kmeans", "spherical", "random"]] = "kmeans"
    clustered: ClassVar[bool] = True


class RandomClustersInit(ClusterInit):
    """Equal clusters drawn at random: the control that shows what k-means is worth."""

    kind: Literal["random_clusters"] = "random_clusters"
    title: ClassVar[str] = "random clusters"
    algorithm: ClassVar[Literal["kmeans", "spherical", "random"]] = "random"


class LloydInit(ClusterInit):
    """An initialisation that needs k-means of the weight."""

    iterations: Count = 25
    """At most as many rounds of k-means."""
    restarts: Count = 1
    """Runs of k-means from different draws; the one that fits best counts."""


class KMeansInit(LloydInit):
    """Ingredient 1 of AdvLoRA: k-means centroids of the weight, and the assignment of its rows (or columns) to them."""

    kind: Literal["kmeans"] = "kmeans"
    title: ClassVar[str] = "k-means"


class SphericalKMeansInit(LloydInit):
    """K-means by the angle between rows (Dhillon & Modha 2001); the centroids are the means of the rows themselves."""

    kind: Literal["spherical_kmeans"] = "spherical_kmeans"
    title: ClassVar[str] = "spherical k-means"
    algorithm: ClassVar[Literal["kmeans", "spherical", "random"]] = "spherical"


class NormMatchedInit(LloydInit):
    """A control: random directions, with a product of the Frobenius norm that `kmeans` with the same keys has."""

    kind: Literal["norm_matched"] = "norm_matched"
    title: ClassVar[str] = "norm-matched"
    clustered: ClassVar[bool] = False


InitConfig = Annotated[
    KMeansInit
    | SphericalKMeansInit
    | RandomClustersInit
    | NormMatchedInit
    | GaussianInit
    | PissaInit
    | MiloraInit
    | OloraInit,
    Field(discriminator="kind"),
    default_kind("kmeans"),
]
