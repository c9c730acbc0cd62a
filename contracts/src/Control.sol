// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Terms, TermIsZero} from "./Terms.sol";

/// @title Control
/// @notice Two roles that can do little. The guardian can stop: pause, and freeze a settlement that is not final.
/// Governance can go on: unpause, and announce changes that anyone can read for `delaySeconds` before they apply.
/// Neither can touch stakes, settled points or the pool. In a swarm without delay one account may hold both roles, as the
/// founder of a local swarm does; with a delay they must be two.
abstract contract Control is Pausable {
    /// @notice What can be changed. At most one change of each is announced at a time.
    enum Change {
        Recipe,
        Bootstrap,
        Governance,
        Guardian
    }

    /// @notice An announced change: its value (for bootstrap addresses their hash), and from when it can be applied, in
    /// unix seconds; zero where none is announced.
    struct Announced {
        bytes32 value;
        uint64 appliesAt;
    }

    /// @notice `sender` does not hold the role that this needs, which is held by `holder`.
    error NotRoleHolder(address sender, address holder);

    /// @notice Governance and guardian are one account, which a swarm with a delay does not allow.
    error RolesNotSeparate(address account);

    /// @notice No such change is announced.
    error NotAnnounced(Change change);

    /// @notice The change can be applied from `appliesAt` on.
    error TooEarly(Change change, uint64 appliesAt);

    /// @notice Another governance was announced, and can accept from `appliesAt` on.
    event GovernanceAnnounced(address indexed next, uint64 appliesAt);

    /// @notice Another guardian was announced, and can accept from `appliesAt` on.
    event GuardianAnnounced(address indexed next, uint64 appliesAt);

    /// @notice An announced change was taken back.
    event ChangeCancelled(Change indexed change);

    /// @notice Governance was handed over.
    event GovernanceChanged(address indexed previous, address indexed next);

    /// @notice The guardian was replaced.
    event GuardianChanged(address indexed previous, address indexed next);

    uint32 internal immutable _delaySeconds;

    address private _governance;
    address private _guardian;
    mapping(Change change => Announced) private _announced;

    modifier onlyGovernance() {
        _requireSender(_governance);
        _;
    }

    modifier onlyGuardian() {
        _requireSender(_guardian);
        _;
    }

    constructor(Terms memory terms_) {
        if (terms_.governance == address(0)) revert TermIsZero("governance");
        if (terms_.guardian == address(0)) revert TermIsZero("guardian");
        _delaySeconds = terms_.delaySeconds;
        _governance = terms_.governance;
        _guardian = terms_.guardian;
        _requireSeparateRoles();
        emit GovernanceChanged(address(0), terms_.governance);
        emit GuardianChanged(address(0), terms_.guardian);
    }

    /// @notice Stops registration, links, key rotation, settlement, claims, funding and staking. What gives back or
    /// protects goes on: check-in, unstaking, freezing, slashing.
    function pause() external onlyGuardian {
        _pause();
    }

    /// @notice Ends a pause.
    function unpause() external onlyGovernance {
        _unpause();
    }

    /// @notice Announces another governance, in place of one announced before.
    function announceGovernance(address next) external onlyGovernance {
        emit GovernanceAnnounced(next, _announce(Change.Governance, _word(next)));
    }

    /// @notice Announces another guardian, in place of one announced before.
    function announceGuardian(address next) external onlyGovernance {
        emit GuardianAnnounced(next, _announce(Change.Guardian, _word(next)));
    }

    /// @notice Takes an announced change back.
    function cancel(Change change) external onlyGovernance {
        if (_announced[change].appliesAt == 0) revert NotAnnounced(change);
        delete _announced[change];
        emit ChangeCancelled(change);
    }

    /// @notice Takes governance over, called by the account that was announced.
    function acceptGovernance() external {
        _acceptRole(Change.Governance);
        emit GovernanceChanged(_governance, msg.sender);
        _governance = msg.sender;
        _requireSeparateRoles();
    }

    /// @notice Takes the guardian's role over, called by the account that was announced.
    function acceptGuardian() external {
        _acceptRole(Change.Guardian);
        emit GuardianChanged(_guardian, msg.sender);
        _guardian = msg.sender;
        _requireSeparateRoles();
    }

    /// @notice Who announces changes and ends a pause.
    function governance() public view returns (address) {
        return _governance;
    }

    /// @notice Who can pause and freeze.
    function guardian() public view returns (address) {
        return _guardian;
    }

    /// @notice The announced change of this kind; all zero if there is none.
    function announced(Change change) external view returns (Announced memory) {
        return _announced[change];
    }

    /// @dev Announces `value` and returns from when it can be applied.
    function _announce(Change change, bytes32 value) internal returns (uint64 appliesAt) {
        appliesAt = uint64(block.timestamp) + _delaySeconds;
        _announced[change] = Announced(value, appliesAt);
    }

    /// @dev Takes the announced value for use, once its delay is over.
    function _takeAnnounced(Change change) internal returns (bytes32 value) {
        Announced memory pending = _announced[change];
        // slither-disable-next-line incorrect-equality (zero is "none", no amount that could be off by a little)
        if (pending.appliesAt == 0) revert NotAnnounced(change);
        if (block.timestamp < pending.appliesAt) revert TooEarly(change, pending.appliesAt);
        delete _announced[change];
        return pending.value;
    }

    function _acceptRole(Change change) private {
        _requireSender(address(uint160(uint256(_takeAnnounced(change)))));
    }

    function _requireSender(address holder) private view {
        if (msg.sender != holder) revert NotRoleHolder(msg.sender, holder);
    }

    function _requireSeparateRoles() private view {
        if (_delaySeconds > 0 && _governance == _guardian) revert RolesNotSeparate(_guardian);
    }

    function _word(address account) private pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }
}
