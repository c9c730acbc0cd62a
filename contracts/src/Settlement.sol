// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Activity} from "./Activity.sol";
import {Terms, TermIsZero} from "./Terms.sol";

/// @title Settlement
/// @notice The points of every epoch as one Merkle root, signed by a quorum of the peers that were active for it. Points
/// are cumulative over all epochs, in millionths. A settlement is final after the challenge window, unless it is frozen:
/// by a second quorum for something else, by a blocking minority that signed something else, or by the guardian. A frozen
/// settlement pays nobody. Its points come with the next epoch, whose root is cumulative anyway; a later settlement that
/// was posted before the freeze stands by itself.
abstract contract Settlement is Activity {
    /// @notice What became of the settlement of an epoch.
    enum Status {
        None,
        Pending,
        Final,
        Frozen
    }

    /// @notice A posted settlement.
    struct Posted {
        /// @dev The root of the tree of (account, cumulative points).
        bytes32 root;
        /// @dev The hash of the data that the points were computed from.
        bytes32 dataHash;
        /// @dev The sum of all points in the tree.
        uint256 totalPoints;
        /// @dev In unix seconds.
        uint64 postedAt;
        /// @dev One more than the epoch of the last settlement before that was not frozen then; zero if there was none.
        uint64 previousEnd;
        bool frozen;
    }

    /// @notice What one peer signed for an epoch.
    struct Attestation {
        bytes32 root;
        bytes32 dataHash;
        uint256 totalPoints;
        bytes signature;
    }

    /// @notice The epoch is not over yet; `current` is the epoch of this moment.
    error EpochNotOver(uint64 epoch, uint64 current);

    /// @notice Only `firstOpen` and later epochs can still be settled.
    error EpochTooEarly(uint64 epoch, uint64 firstOpen);

    /// @notice This very settlement is posted already.
    error AlreadyPosted(uint64 epoch);

    /// @notice The settlement of the epoch is not within its challenge window.
    error NotPending(uint64 epoch, Status status);

    /// @notice The settlement has fewer points than the one before, `previous`.
    error PointsFell(uint256 totalPoints, uint256 previous);

    /// @notice The signature at `index` is malformed.
    error MalformedSignature(uint256 index);

    /// @notice The signer of the signature at `index` is not a peer that is active for the epoch. A signature over
    /// something else also ends here, as that of a stranger.
    error SignerNotActive(uint256 index, address signer, uint64 epoch);

    /// @notice The signatures must be in ascending order of their signers, each once; the one at `index` is not.
    error SignersNotAscending(uint256 index, address signer);

    /// @notice There are `given` signatures, and at least `needed` are needed.
    error TooFewSignatures(uint256 given, uint256 needed);

    /// @notice The attestation at `index` is for the settlement that is posted, and so no dissent.
    error NotDissent(uint256 index);

    /// @notice The points of an epoch were posted; they are final after the challenge window.
    event SettlementPosted(
        uint64 indexed epoch,
        bytes32 root,
        bytes32 dataHash,
        uint256 totalPoints,
        address indexed poster,
        uint256 signers
    );

    /// @notice The settlement of the epoch pays nobody. `by` sent the proof, or is the guardian.
    event SettlementFrozen(uint64 indexed epoch, address indexed by);

    bytes32 private constant SETTLEMENT_TYPE =
        keccak256("Settlement(uint64 epoch,bytes32 root,bytes32 dataHash,uint256 totalPoints)");

    uint32 private immutable _challengeSeconds;

    mapping(uint64 epoch => Posted) private _posted;

    constructor(Terms memory terms_) {
        if (terms_.challengeSeconds == 0) revert TermIsZero("challengeSeconds");
        _challengeSeconds = terms_.challengeSeconds;
    }

    /// @notice Posts the settlement of an epoch that is over, or proves by a second quorum that peers disagree about one
    /// that is pending, which freezes it. Anyone may post; epochs may be skipped, and none is posted after a later one.
    /// @param signatures By at least `quorum(epoch)` peers that are active for the epoch, in ascending order of their
    /// accounts, over Settlement(uint64 epoch,bytes32 root,bytes32 dataHash,uint256 totalPoints). A peer must never sign
    /// two settlements of one epoch: where there are stakes, it costs the stake.
    function postSettlement(
        uint64 epoch,
        bytes32 root,
        bytes32 dataHash,
        uint256 totalPoints,
        bytes[] calldata signatures
    ) external whenNotPaused {
        if (epoch >= currentEpoch()) revert EpochNotOver(epoch, currentEpoch());
        bool first = _posted[epoch].postedAt == 0;
        if (first) {
            _requireNext(epoch, totalPoints);
        } else {
            if (_same(_posted[epoch], root, dataHash, totalPoints)) revert AlreadyPosted(epoch);
            _requirePending(epoch);
        }

        if (signatures.length < quorum(epoch)) revert TooFewSignatures(signatures.length, quorum(epoch));
        bytes32 digest = settlementDigest(epoch, root, dataHash, totalPoints);
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            last = _requireSigner(i, last, epoch, digest, signatures[i]);
            if (first) _markActive(last, epoch);
        }

        if (first) {
            uint64 previousEnd = _lastUnfrozenEnd();
            _posted[epoch] = Posted(root, dataHash, totalPoints, uint64(block.timestamp), previousEnd, false);
            _firstOpenEpoch = epoch + 1;
            emit SettlementPosted(epoch, root, dataHash, totalPoints, msg.sender, signatures.length);
        } else {
            _freeze(epoch);
        }
    }

    /// @notice Freezes a pending settlement that a blocking minority signed against: so many active peers that without
    /// them no quorum is left.
    /// @param attestations What these peers signed for the epoch instead, in ascending order of their accounts.
    function freezeByDissent(uint64 epoch, Attestation[] calldata attestations) external {
        _requirePending(epoch);
        uint256 needed = activeCount(epoch) + 1 - quorum(epoch);
        if (attestations.length < needed) revert TooFewSignatures(attestations.length, needed);
        address last = address(0);
        for (uint256 i = 0; i < attestations.length; ++i) {
            Attestation calldata given = attestations[i];
            if (_same(_posted[epoch], given.root, given.dataHash, given.totalPoints)) revert NotDissent(i);
            last = _requireSigner(i, last, epoch, _digest(epoch, given), given.signature);
        }
        _freeze(epoch);
    }

    /// @notice Freezes a pending settlement, called by the guardian.
    function freeze(uint64 epoch) external onlyGuardian {
        _requirePending(epoch);
        _freeze(epoch);
    }

    /// @notice How long a posted settlement can be challenged, in seconds.
    function challengeSeconds() public view returns (uint32) {
        return _challengeSeconds;
    }

    /// @notice How many signatures a settlement of the epoch needs: more than two thirds of the active peers.
    function quorum(uint64 epoch) public view returns (uint256) {
        return (2 * activeCount(epoch)) / 3 + 1;
    }

    /// @notice What became of the settlement of an epoch.
    function status(uint64 epoch) public view returns (Status) {
        Posted storage posted = _posted[epoch];
        if (posted.postedAt == 0) return Status.None;
        if (posted.frozen) return Status.Frozen;
        return block.timestamp < posted.postedAt + _challengeSeconds ? Status.Pending : Status.Final;
    }

    /// @notice The settlement of an epoch; all zero where none was posted.
    function settlement(uint64 epoch) public view returns (Posted memory) {
        return _posted[epoch];
    }

    /// @notice The last epoch whose settlement is final, if there is one.
    function latestFinal() external view returns (bool found, uint64 epoch) {
        uint64 end = _lastUnfrozenEnd();
        while (end != 0 && status(end - 1) != Status.Final) {
            end = _posted[end - 1].previousEnd;
        }
        return end > 0 ? (true, end - 1) : (false, 0);
    }

    /// @notice What the peers sign for the settlement of an epoch.
    function settlementDigest(uint64 epoch, bytes32 root, bytes32 dataHash, uint256 totalPoints)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(SETTLEMENT_TYPE, epoch, root, dataHash, totalPoints)));
    }

    function _digest(uint64 epoch, Attestation calldata given) internal view returns (bytes32) {
        return settlementDigest(epoch, given.root, given.dataHash, given.totalPoints);
    }

    function _freeze(uint64 epoch) private {
        _posted[epoch].frozen = true;
        emit SettlementFrozen(epoch, msg.sender);
    }

    /// @dev The signer of `digest`, who must come after `last` and be active for the epoch.
    function _requireSigner(uint256 index, address last, uint64 epoch, bytes32 digest, bytes calldata signature)
        private
        view
        returns (address signer)
    {
        ECDSA.RecoverError failure;
        // slither-disable-next-line unused-return (what is left out only describes the failure)
        (signer, failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError) revert MalformedSignature(index);
        if (!isActive(signer, epoch)) revert SignerNotActive(index, signer, epoch);
        if (signer <= last) revert SignersNotAscending(index, signer);
    }

    /// @dev Requires that the epoch comes after all that were posted, with no fewer points than the last not frozen.
    function _requireNext(uint64 epoch, uint256 totalPoints) private view {
        if (epoch < _firstOpenEpoch) revert EpochTooEarly(epoch, _firstOpenEpoch);
        uint64 end = _lastUnfrozenEnd();
        if (end > 0 && totalPoints < _posted[end - 1].totalPoints) {
            revert PointsFell(totalPoints, _posted[end - 1].totalPoints);
        }
    }

    function _requirePending(uint64 epoch) private view {
        Status found = status(epoch);
        if (found != Status.Pending) revert NotPending(epoch, found);
    }

    /// @dev One more than the last posted epoch that is not frozen; zero if there is none. The chain skips what was
    /// frozen before the next was posted, so the loop is no longer than the settlements within one challenge window.
    function _lastUnfrozenEnd() private view returns (uint64 end) {
        end = _firstOpenEpoch;
        while (end != 0 && _posted[end - 1].frozen) {
            end = _posted[end - 1].previousEnd;
        }
    }

    function _same(Posted storage posted, bytes32 root, bytes32 dataHash, uint256 totalPoints)
        private
        view
        returns (bool)
    {
        return posted.root == root && posted.dataHash == dataHash && posted.totalPoints == totalPoints;
    }
}
